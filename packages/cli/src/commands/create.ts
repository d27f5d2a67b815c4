import { stat } from "node:fs/promises";
import { basename, posix } from "node:path";
import type { Client, Duration, Memory, Sandbox, SandboxOptions, VolumeMountConfig } from "@caisson/sdk";
import type { Command } from "commander";
import { usageError } from "../cli-error.ts";
import type { Context } from "../context.ts";
import { addCommonOptions, addExamples, collect, createContext } from "../define.ts";
import { EXIT } from "../exit-codes.ts";
import { parsePairs } from "../parse-pairs.ts";
import { openShell } from "../terminal/open-shell.ts";
import { runCommand } from "../terminal/run-command.ts";
import { untilInterrupted } from "../terminal/until-interrupted.ts";
import { notOffered } from "./not-offered.ts";

/** Where `--copy` puts things, as `deno sandbox create` does. */
const COPY_TARGET = "/app";

interface CreateFlags {
  readonly timeout: string;
  readonly copy?: readonly string[];
  readonly cwd?: string;
  readonly ssh?: boolean;
  readonly exposeHttp?: string;
  readonly memory?: string;
  readonly volume?: readonly string[];
  readonly region?: string;
  readonly root?: string;
  readonly env?: readonly string[];
  readonly label?: readonly string[];
  readonly allowNet?: readonly string[];
}

/** `caisson create`. */
export function addCreateCommand(program: Command): void {
  const command = program
    .command("create")
    .alias("new")
    .description("Create a sandbox; with a command, run it there")
    .argument("[command...]", "a shell command to run in it")
    .option("--timeout <duration>", "how long it lives: 90s, 20m, or session: until this command ends", "session")
    .option("--copy <path>", `copy a file or directory to ${COPY_TARGET} (repeatable)`, collect)
    .option("--cwd <path>", "working directory of the command (default: /home/app)")
    .option("--ssh", "not offered yet: see `caisson shell`")
    .option("--expose-http <port>", "publish an HTTP port and print its address")
    .option("--memory <size>", "768MiB to 4096MiB (default: 1280MiB)")
    .option("--volume <volume:path>", "mount a volume, read-only with :ro at the end (repeatable)", collect)
    .option("--region <region>", "where to run (default: ord)")
    .option("--root <volume-or-snapshot>", "boot from it (default: builtin:debian-13)")
    .option("--env <key=value>", "an environment variable (repeatable)", collect)
    .option("--label <key=value>", "a label (repeatable)", collect)
    .option("--allow-net <host>", "allow only the named hosts (repeatable)", collect)
    .passThroughOptions()
    .action(async (words: string[], flags: CreateFlags) => {
      const context = createContext(command);
      const options = readOptions(flags);
      const { client } = await context.connect();
      process.exitCode = await createAndUse(context, client, words, flags, options);
    });
  addCommonOptions(command);
  addExamples(command, [
    ["caisson create", "A sandbox and a terminal in it; it ends when the terminal closes"],
    ["caisson create --timeout 20m --volume dataset:/data", "One that lives for 20 minutes; prints its id"],
    [
      "caisson create --copy . --cwd /app/my-project npm test",
      "Copy a directory, run a command, end with its exit code",
    ],
    ["caisson create --root root-v1 --label job=nightly 'uname -a'", "Boot from a snapshot"],
  ]);
}

async function createAndUse(
  context: Context,
  client: Client,
  words: readonly string[],
  flags: CreateFlags,
  options: SandboxOptions,
): Promise<number> {
  const isSession = flags.timeout === "session";
  const sandbox = await client.sandboxes.create(options);
  try {
    for (const path of flags.copy ?? []) await copyToApp(sandbox, path);
    if (sandbox.url !== undefined) context.output.note(`Port ${flags.exposeHttp} is published at ${sandbox.url}`);
    const code = words.length === 0 ? EXIT.ok : await runCommand(sandbox, words, context.output, flags);
    if (!isSession) context.output.value(sandbox.id, { id: sandbox.id, url: sandbox.url ?? null });
    else if (words.length === 0) return await staySession(context, sandbox, flags);
    return code;
  } catch (error) {
    // Nobody was told the id of a sandbox whose preparation failed, so nobody could end it.
    await sandbox
      .kill()
      .catch((cause: unknown) => context.output.note(`Cannot end sandbox ${sandbox.id}: ${String(cause)}`));
    throw error;
  } finally {
    await sandbox.close();
  }
}

/** A directory is copied under its own name by the library; a file has to be given it. */
async function copyToApp(sandbox: Sandbox, path: string): Promise<void> {
  const isDirectory = (await stat(path)).isDirectory();
  await sandbox.fs.upload(path, isDirectory ? COPY_TARGET : posix.join(COPY_TARGET, basename(path)));
}

/** A session sandbox lives as long as this process: in a terminal it is used through a shell, else until somebody interrupts. */
async function staySession(context: Context, sandbox: Sandbox, flags: CreateFlags): Promise<number> {
  if (context.isInteractive) {
    context.output.note(`Sandbox ${sandbox.id}; it ends with this shell.`);
    return await openShell(sandbox, flags);
  }
  context.output.value(sandbox.id, { id: sandbox.id, url: sandbox.url ?? null });
  context.output.note("The sandbox ends when this command is interrupted.");
  const isInterrupted = await untilInterrupted(sandbox.closed);
  if (!isInterrupted) context.output.note(`Sandbox ${sandbox.id} has ended.`);
  return isInterrupted ? EXIT.ok : EXIT.failure;
}

function readOptions(flags: CreateFlags): SandboxOptions {
  if (flags.ssh)
    throw notOffered(
      "caisson create --ssh",
      "For an interactive terminal: caisson create, or caisson shell SANDBOX-ID",
    );
  const { timeout, memory, region, root, exposeHttp, volume, env, label, allowNet } = flags;
  return {
    timeout: timeout as "session" | Duration,
    volumes: Object.fromEntries((volume ?? []).map(parseMount)),
    env: parsePairs("--env", env ?? []),
    labels: parsePairs("--label", label ?? []),
    ...(memory === undefined ? {} : { memory: memory as Memory }),
    ...(region === undefined ? {} : { region }),
    ...(root === undefined ? {} : { root }),
    ...(exposeHttp === undefined ? {} : { port: parsePort(exposeHttp) }),
    ...(allowNet === undefined ? {} : { allowNet: [...allowNet] }),
  };
}

/** `<idOrSlug>:<path>` or `<idOrSlug>:<path>:ro`. */
function parseMount(text: string): [path: string, mount: VolumeMountConfig] {
  const [, volume, path, mode] = /^([^:]+):(\/[^:]*?)(:ro)?$/.exec(text) ?? [];
  if (volume === undefined || path === undefined || posix.normalize(path) === "/") {
    const hint =
      "Write it as --volume NAME:/path, or NAME:/path:ro to mount it read-only. To boot from a volume: --root NAME.";
    throw usageError(`Invalid --volume ${JSON.stringify(text)}`, hint);
  }
  return [path, { volume, readOnly: mode !== undefined }];
}

function parsePort(text: string): number {
  const port = Number(text);
  if (Number.isInteger(port) && port >= 1 && port <= 65_535) return port;
  throw usageError(`Invalid --expose-http ${JSON.stringify(text)}`, "Give a port from 1 to 65535.");
}
