import { chmod, mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { hasErrorCode, readMounts, runTool, unmount } from "@caisson/linux";
import { assertNoLeaks, testTimeoutMs } from "@caisson/linux/testing";
import { randomCharacters } from "@caisson/model";
import { ensureBaseImage } from "@caisson/server/base-image";
import type { NetworkOptions } from "../src/network/sandbox-network.ts";
import { OciRuntime } from "../src/oci/oci-runtime.ts";
import type { RootSpec } from "../src/runtime.ts";
import type { TestHost } from "./harness.ts";

/** An agent that does nothing but run shell scripts: enough to look around in a sandbox. */
const TEST_AGENT = `
const own = new Set(Deno.env.get("CAISSON_AGENT_OWN").split(" "));
const environment = {
  ...Object.fromEntries(
    Object.entries(Deno.env.toObject()).filter(([name]) => !name.startsWith("CAISSON_AGENT_") && !own.has(name)),
  ),
  ...Object.fromEntries(
    new TextDecoder()
      .decode(Uint8Array.fromBase64(Deno.env.get("CAISSON_AGENT_ENV_0")))
      .split("\\0")
      .filter((entry) => entry !== "")
      .map((entry) => [entry.slice(0, entry.indexOf("=")), entry.slice(entry.indexOf("=") + 1)]),
  ),
};
async function run(script) {
  const options = { args: ["-c", script], clearEnv: true, env: environment, cwd: environment.HOME, stdin: "null" };
  const { code, stdout, stderr } = await new Deno.Command("/bin/bash", options).output();
  const text = (bytes) => new TextDecoder().decode(bytes);
  return Response.json({ code, stdout: text(stdout), stderr: text(stderr) });
}
Deno.serve({ path: Deno.env.get("CAISSON_AGENT_SOCKET"), onListen() {} }, async (request) => {
  switch (new URL(request.url).pathname) {
    case "/run": return await run(await request.text());
    case "/stop": await Deno.writeTextFile(environment.HOME + "/said-good-bye", ""); return new Response();
    default: return new Response(null, { status: 404 });
  }
});
`;

/** What crun keeps of all sandboxes in its state directory, until the runtime is closed. */
const RUNTIME_CACHE = ".cache";

export interface TestHostOptions {
  readonly runtimePath: string;
  readonly network: NetworkOptions;
}

/** Directories with real roots, mounted as the server would mount them, in a directory of their own. */
export async function makeOciTestHost({ runtimePath, network }: TestHostOptions): Promise<TestHost> {
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

  return {
    lowerPath,
    open: () =>
      OciRuntime.open({
        runDirectory,
        instance,
        agentPath,
        runtimePath,
        network,
        preparedCount: 1,
        startTimeoutMs: testTimeoutMs(20_000),
      }),
    newDirectory,
    async newRoot(kind): Promise<RootSpec> {
      if (kind === "ephemeral") return { kind, lowerPath, scratchPath: await newDirectory() };
      const copy = join(base, `persistent-${count}.ext4`);
      await runTool("cp", ["--sparse=always", "--reflink=auto", image.path, copy]);
      return { kind, path: await mountImage(copy, "rw") };
    },
    crashCommand: [
      process.execPath,
      join(import.meta.dirname, "test-crash.ts"),
      JSON.stringify({ runDirectory, instance, agentPath, runtimePath, network, preparedCount: 1 }),
    ],
    async findDebris() {
      const files = await Promise.all(["sandboxes", "state"].map((name) => listDirectory(join(runDirectory, name))));
      const mounted = (await readMounts()).filter(({ target }) => target.startsWith(`${runDirectory}/sandboxes/`));
      return [...files.flat().filter((name) => name !== RUNTIME_CACHE), ...mounted.map(({ target }) => target)];
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
