import { spawn } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

const MARK = "CAISSON_TEST_PRIVATE_NETWORK";

/**
 * Runs the tests of a file in a network namespace of its own, so that addresses, routes and rules of a test touch nobody. Called at the top of
 * the file: false means that this is the outer process, which has one test, that the inner one passes, and shall define no other.
 */
export function isInPrivateNetwork(file: string): boolean {
  if (process.env[MARK] !== undefined) return true;
  test("in a network of its own", async () => {
    const directory = await mkdtemp(join(tmpdir(), "caisson-fault-plan-"));
    const planPath = join(directory, "plan");
    const tracePath = join(directory, "trace");
    await writeFile(planPath, "");
    const env: NodeJS.ProcessEnv = {
      ...process.env,
      [MARK]: "1",
      CAISSON_FAULT_PLAN: planPath,
      CAISSON_FAULT_TRACE: tracePath,
    };
    // The runner's mark would make the inner process speak the runner's binary protocol.
    delete env.NODE_TEST_CONTEXT;
    try {
      await runInside(["unshare", "--net", "--", process.execPath, "--test-reporter=spec", file], env);
    } finally {
      await rm(directory, { recursive: true });
    }
  });
  return false;
}

async function runInside([command = "", ...args]: readonly string[], env: NodeJS.ProcessEnv): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const child = spawn(command, args, { env, stdio: ["ignore", "pipe", "pipe"] });
  const isVerbose = process.env.CAISSON_TEST_VERBOSE !== undefined;
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8").on("data", (text: string) => {
      output += text;
      if (isVerbose) process.stderr.write(text);
    });
  }
  child.once("error", reject);
  child.once("close", (code) => {
    if (code === 0) resolve();
    else reject(new Error(`The tests inside ended with ${code}:\n${output}`));
  });
  await promise;
}
