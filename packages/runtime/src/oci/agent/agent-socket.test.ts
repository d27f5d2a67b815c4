import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

const MODULE = new URL("./agent-socket.ts", import.meta.url).href;

test("an agent is found where the host has no watch left for the server", async () => {
  const directory = await mkdtemp(join(tmpdir(), "caisson-socket-"));
  // In a user namespace of its own, whose limit concerns nobody else.
  const script = `const { waitForAgent } = await import(${JSON.stringify(MODULE)});
    const { watch } = await import("node:fs");
    let isRefused = false;
    try { watch("/") } catch { isRefused = true }
    await using socket = await waitForAgent(process.argv[1], AbortSignal.timeout(20_000));
    console.log(isRefused, await socket.isAlive());`;
  const node = [process.execPath, "--input-type=module", "--eval", script, directory];
  const limited = 'echo 0 >/proc/sys/user/max_inotify_instances && exec "$@"';
  const waiting = spawn("unshare", ["--user", "--map-root-user", "sh", "-c", limited, "sh", ...node], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  let output = "";
  waiting.stdout.on("data", (chunk) => {
    output += String(chunk);
  });
  const server = createServer((_request, response) => response.end("ok"));
  // Usually the agent comes after the wait has begun.
  await new Promise((resolve) => setTimeout(resolve, 500));
  server.listen(join(directory, "agent.sock"));
  try {
    const [code] = await once(waiting, "close");
    assert.deepEqual([code, output], [0, "true true\n"]);
  } finally {
    waiting.kill("SIGKILL");
    server.close();
    await rm(directory, { recursive: true });
  }
});
