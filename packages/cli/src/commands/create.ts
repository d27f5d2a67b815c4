import { stat } from "node:fs/promises";
import { basename, posix } from "node:path";
import type {
  Client,
  Duration,
  Memory,
  Sandbox,
  SandboxOptions,
  SkippedFile,
  TransferOptions,
  VolumeMountConfig,
} from "@caisson/sdk";
import type { Command } from "commander";
import { usageError } from "../cli-error.ts";
import { type Context, loadSdk } from "../context.ts";
import { addCommonOptions, addExamples, collect, createContext } from "../define.ts";
import { EXIT } from "../exit-codes.ts";
import { showingFetch } from "../fetch-progress.ts";
import { warnShortened } from "../lifetime.ts";
import { flushOutputs } from "../output/standard-outputs.ts";
import { parsePairs } from "../parse-pairs.ts";
import { runSsh } from "../ssh/run-ssh.ts";
import { explainEnd } from "../terminal/explain-end.ts";
import { asProgram } from "../terminal/not-run-error.ts";
import { openShell } from "../terminal/open-shell.ts";
import { isSeparated, readProgram } from "../terminal/program.ts";
import { runCommand } from "../terminal/run-command.ts";
import { InterruptedError, untilInterrupted, withInterrupt } from "../terminal/until-interrupted.ts";
import { withMountSuggestion } from "../with-suggestion.ts";
import { parsePort } from "./previews.ts";

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
  readonly hostname?: string;
}

/** `caisson create`. */
export function addCreateCommand(program: Command): void {
  const command = program
    .command("create")
    .alias("new")
    .description("Create a sandbox; with a command, run it there")
    .argument("[command...]", "a program to run in it, as with `caisson exec`")
    .option("--timeout <duration>", "how long it lives: 90s, 20m, or session: until this command ends", "session")
    .option("--copy <path>", `copy a file or directory to ${COPY_TARGET} (repeatable)`, collect)
    .option("--cwd <path>", "working directory of the command (default: /home/app)")
    .option("--ssh", "open it to SSH and print how; in a terminal, use it through ssh")
    .option("--expose-http <port>", "give the server on this port a public address, and print it")
    .option("--memory <size>", "768MiB to 4096MiB (default: 1280MiB)")
    .option("--volume <volume:path>", "mount a volume, read-only with :ro at the end (repeatable)", collect)
    .option(
      "--region <region>",
      "where to run (default: where its root and volumes are, else the first region of the server)",
    )
    .option("--root <volume-or-snapshot>", "boot from it (default: builtin:debian-13)")
    .option("--env <key=value>", "an environment variable (repeatable)", collect)
    .option("--label <key=value>", "a label (repeatable)", collect)
    .option("--allow-net <host>", "allow only the named hosts (repeatable)", collect)
    .option("--hostname <name>", "what it is called inside (default: as its root volume, else its id)")
    .passThroughOptions()
    .action(async (words: string[], flags: CreateFlags) => {
      const context = createContext(command);
      const create = () => createAndUse(context, words, flags);
      process.exitCode = await (words.length === 0 ? create() : asProgram(create));
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

async function createAndUse(context: Context, words: readonly string[], flags: CreateFlags): Promise<number> {
  const options = readOptions(flags);
  await requireSources(flags.copy ?? []);
  const { client } = await context.connect();
  const sandbox = await withInterrupt((signal) => prepare(client, options, flags, signal, context));
  try {
    return await explainEnd(client, sandbox.id, () => use(context, client, sandbox, words, flags));
  } catch (error) {
    await end(sandbox, context);
    throw error;
  } finally {
    await sandbox.close();
  }
}

/** Creates the sandbox with everything in it, or leaves none. */
async function prepare(
  client: Client,
  options: SandboxOptions,
  { copy, timeout, exposeHttp }: CreateFlags,
  signal: AbortSignal,
  context: Context,
): Promise<Sandbox> {
  const onShortened = (stopAt: Date) => warnShortened(context.output, stopAt, timeout);
  const create = () => client.sandboxes.create({ ...options, signal, onShortened });
  const sandbox = await showingFetch(context.output, client, options.root, () =>
    withMountSuggestion(client, options, create),
  );
  try {
    const onSkip = ({ message }: SkippedFile) => context.output.warn(message);
    for (const path of copy ?? []) await copyToApp(sandbox, path, { signal, onSkip });
    // The interrupt may have come together with the answer.
    signal.throwIfAborted();
    // Beside the id and the output of the command, which are for programs.
    const { ssh } = sandbox;
    if (ssh !== undefined) context.output.note(`SSH: ssh -p ${ssh.port} ${ssh.username}@${ssh.hostname}`);
    if (sandbox.url !== undefined) context.output.note(`Port ${exposeHttp} is reached at ${sandbox.url}`);
    return sandbox;
  } catch (error) {
    await end(sandbox, context);
    throw error;
  }
}

/** Runs the command, if there is one, and hands the sandbox over: its id is printed, or it is used here until it ends. */
async function use(
  context: Context,
  client: Client,
  sandbox: Sandbox,
  words: readonly string[],
  flags: CreateFlags,
): Promise<number> {
  const isSession = flags.timeout === "session";
  if (words.length === 0 && isSession) return await staySession(context, client, sandbox, flags);
  const program = readProgram(words, isSeparated(process.argv, words));
  const code = words.length === 0 ? EXIT.ok : await runCommand(sandbox, program, context.output, flags);
  if (!isSession) await printId(context, sandbox);
  return code;
}

/** Fails when the id is not taken over by its reader: then nobody could end the sandbox. */
async function printId({ output }: Context, { id }: Sandbox): Promise<void> {
  output.value(id, { id });
  const signal = await untilInterrupted(flushOutputs());
  if (signal !== null) throw new InterruptedError(signal);
}

/** Nobody was told the id of a sandbox whose preparation failed, so nobody else would end it. */
async function end(sandbox: Sandbox, { output }: Context): Promise<void> {
  await sandbox.kill().catch((cause: unknown) => output.note(`Cannot end sandbox ${sandbox.id}: ${String(cause)}`));
}

/** What --copy names is looked for before there is a sandbox. */
async function requireSources(paths: readonly string[]): Promise<void> {
  if (paths.length === 0) return;
  const { fileSystemOf, lookUp } = await import("../copy/copy.ts");
  for (const path of paths) await lookUp(fileSystemOf(null), path, { sandboxId: null, path });
}

/** A directory is copied under its own name by the library; a file has to be given it. */
async function copyToApp(sandbox: Sandbox, path: string, options: TransferOptions): Promise<void> {
  const isDirectory = (await stat(path)).isDirectory();
  await sandbox.fs.upload(path, isDirectory ? COPY_TARGET : posix.join(COPY_TARGET, basename(path)), options);
}

/** A session sandbox lives as long as this process: in a terminal it is used through a shell, else until somebody interrupts. */
async function staySession(context: Context, client: Client, sandbox: Sandbox, flags: CreateFlags): Promise<number> {
  if (context.isInteractive) {
    context.output.note(`Sandbox ${sandbox.id}; it ends with this shell.`);
    return flags.ssh === true ? await runSsh(context, client, sandbox.id, []) : await openShell(sandbox, flags);
  }
  await printId(context, sandbox);
  context.output.note("The sandbox ends when this command is interrupted.");
  if ((await untilInterrupted(sandbox.closed)) !== null) return EXIT.ok;
  const { ConnectionClosedError } = await loadSdk();
  throw new ConnectionClosedError();
}

function readOptions(flags: CreateFlags): SandboxOptions {
  const { timeout, memory, region, root, volume, env, label, allowNet, hostname } = flags;
  return {
    timeout: timeout as "session" | Duration,
    volumes: Object.fromEntries((volume ?? []).map(parseMount)),
    env: parsePairs("--env", env ?? []),
    labels: parsePairs("--label", label ?? []),
    ...(memory === undefined ? {} : { memory: memory as Memory }),
    ...(region === undefined ? {} : { region }),
    ...(root === undefined ? {} : { root }),
    ...(hostname === undefined ? {} : { hostname }),
    ...(flags.ssh === true ? { ssh: true } : {}),
    ...(flags.exposeHttp === undefined ? {} : { port: parsePort(flags.exposeHttp, "it") }),
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
