import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { test } from "node:test";
import { ownProcesses } from "./own-processes.ts";

test("a process that ends while it is looked for is none of a sandbox, and keeps nobody from the others", async () => {
  const ended = spawn("true");
  await once(ended, "exit");
  const ids = { firstHostId: process.getuid?.() ?? 0, count: 1 };
  assert.deepEqual(await ownProcesses(ids, [ended.pid ?? 0, process.pid]), [process.pid]);
  assert.deepEqual(await ownProcesses({ ...ids, firstHostId: ids.firstHostId + 1 }, [process.pid]), []);
});
