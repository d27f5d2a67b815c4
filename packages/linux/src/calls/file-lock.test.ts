import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { lockFile } from "./file-lock.ts";

test("a lock is held until it is released, also when its owner keeps no reference to it", async () => {
  const directory = await mkdtemp(join(tmpdir(), "caisson-lock-"));
  const path = join(directory, "lock");
  await lockFile(path);
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as () => void;
  for (let round = 0; round < 3; round += 1) {
    collect();
    await new Promise((resolve) => setImmediate(resolve));
  }
  await assert.rejects(lockFile(path, { signal: AbortSignal.timeout(200) }), { name: /AbortError|TimeoutError/ });
  await rm(directory, { recursive: true });
});
