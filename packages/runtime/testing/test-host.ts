import { chmod, mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { hasErrorCode, readMounts, runTool, unmount } from "@caisson/linux";
import { assertNoLeaks, testTimeoutMs } from "@caisson/linux/testing";
import { randomCharacters } from "@caisson/model";
import { ensureBaseImage } from "@caisson/server/base-image";
import type { NetworkOptions } from "../src/network/sandbox-network.ts";
import { OciRuntime } from "../src/oci/oci-runtime.ts";
import type { WarmSettings } from "../src/oci/warm/open-warm-parts.ts";
import type { RootSpec } from "../src/runtime.ts";
import { MODEST_MEMORY_BYTES, type TestHost } from "./harness.ts";

/** An agent that does nothing but run shell scripts: enough to look around in a sandbox. */
const TEST_AGENT = `
const toVariables = (lines) =>
  Object.fromEntries(
    lines.filter((line) => line !== "").map((line) => [line.slice(0, line.indexOf("=")), line.slice(line.indexOf("=") + 1)]),
  );
function environmentOf(variables) {
  const own = new Set(variables.CAISSON_AGENT_OWN.split(" "));
  const hidden = new TextDecoder().decode(Uint8Array.fromBase64(variables.CAISSON_AGENT_ENV_0));
  return {
    ...Object.fromEntries(
      Object.entries(variables).filter(([name]) => !name.startsWith("CAISSON_AGENT_") && !own.has(name)),
    ),
    ...toVariables(hidden.split("\\0")),
  };
}
let environment = environmentOf(Deno.env.toObject());
async function configure({ directory, variables }) {
  environment = environmentOf(toVariables(variables));
  await Deno.mkdir(directory, { recursive: true });
  Deno.chdir(directory);
  return new Response();
}
async function run(script) {
  const options = { args: ["-c", script], clearEnv: true, env: environment, cwd: environment.HOME, stdin: "null" };
  const { code, stdout, stderr } = await new Deno.Command("/bin/bash", options).output();
  const text = (bytes) => new TextDecoder().decode(bytes);
  return Response.json({ code, stdout: text(stdout), stderr: text(stderr) });
}
Deno.serve({ path: Deno.env.get("CAISSON_AGENT_SOCKET"), onListen() {} }, async (request) => {
  switch (new URL(request.url).pathname) {
    case "/configure": return await configure(await request.json());
    case "/run": return await run(await request.text());
    case "/stop": await Deno.writeTextFile(environment.HOME + "/said-good-bye", ""); return new Response();
    default: return new Response(null, { status: 404 });
  }
});
`;

/** What crun of Debian 13 keeps of all sandboxes in its state directory, until the runtime is closed. */
export const RUNTIME_CACHE = ".cache";

/** Of containers that wait, or that have waited. */
const WAITING_PREFIX = "warm-";

export interface TestHostOptions {
  readonly runtimePath: string;
  readonly network: NetworkOptions;
  /** Containers that wait, for the modest memory of the suite. Default: none, every start is cold. */
  readonly warm?: Omit<WarmSettings, "memoryBytes">;
}

/** Directories with real roots, mounted as the server would mount them, in a directory of their own. */
export async function makeOciTestHost(options: TestHostOptions): Promise<TestHost> {
  const { runtimePath, network } = options;
  const warm = options.warm === undefined ? {} : { warm: { ...options.warm, memoryBytes: MODEST_MEMORY_BYTES } };
  const image = await ensureBaseImage();
  const base = await mkdtemp(join(tmpdir(), "caisson-runtime-"));
  const instance = `test-${randomCharacters(8)}`;
  const runDirectory = join(base, "run");
  const agentPath = join(base, "agent.js");
  const mounts: string[] = [];
  let count = 0;

  const newDirectory = async (): Promise<string> => {
    count += 1;
    const path = join(base, `directory-${count}`);
    await mkdir(path);
    return path;
  };
  const mountImage = async (path: string, options: string): Promise<string> => {
    const target = await newDirectory();
    await runTool("mount", ["-o", `loop,${options}`, path, target]);
    mounts.push(target);
    return target;
  };

  // Sandboxes pass through here as ids of their own.
  await chmod(base, 0o711);
  await writeFile(agentPath, TEST_AGENT);
  const lowerPath = await mountImage(image.path, "ro");

  const runtimeOptions = {
    runDirectory,
    instance,
    agentPath,
    runtimePath,
    network,
    preparedCount: 1,
    startTimeoutMs: testTimeoutMs(45_000),
    ...warm,
  };
  const warnings: string[] = [];
  const logger = {
    debug: () => undefined,
    warn: (details: object, message: string) => void warnings.push(`${message}: ${Object.values(details).join()}`),
  };
  let opened: OciRuntime | null = null;
  return {
    instance,
    lowerPath,
    isWarm: options.warm !== undefined,
    warnings,
    async open() {
      opened = await OciRuntime.open({ ...runtimeOptions, logger });
      return opened;
    },
    async settle() {
      await opened?.untilWarm();
    },
    newDirectory,
    async newRoot(kind): Promise<RootSpec> {
      if (kind === "ephemeral") return { kind, lowerPath, scratchPath: await newDirectory() };
      const copy = join(base, `persistent-${count}.ext4`);
      await runTool("cp", ["--sparse=always", "--reflink=auto", image.path, copy]);
      return { kind, path: await mountImage(copy, "rw") };
    },
    crashCommand: [process.execPath, join(import.meta.dirname, "test-crash.ts"), JSON.stringify(runtimeOptions)],
    async findDebris() {
      const waitingCount = (await opened?.untilWarm()) ?? 0;
      const found = await Promise.all(
        ["sandboxes", "state"].map(async (name) => {
          const files = (await listDirectory(join(runDirectory, name))).filter((file) => file !== RUNTIME_CACHE);
          const waiting = files.filter((file) => file.startsWith(WAITING_PREFIX)).slice(0, waitingCount);
          return files.filter((file) => !waiting.includes(file));
        }),
      );
      const mounted = (await readMounts()).filter(({ target }) => target.startsWith(`${runDirectory}/sandboxes/`));
      return [...found.flat(), ...mounted.map(({ target }) => target)];
    },
    async dispose() {
      for (const path of mounts.reverse()) await unmount(path);
      await rm(base, { recursive: true });
      await assertNoLeaks({ directory: base, instance });
    },
  };
}

/** Closing the runtime removes some of its directories. */
async function listDirectory(path: string): Promise<readonly string[]> {
  try {
    return await readdir(path);
  } catch (error) {
    if (hasErrorCode(error, "ENOENT")) return [];
    throw error;
  }
}
