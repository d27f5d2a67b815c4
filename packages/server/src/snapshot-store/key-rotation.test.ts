import assert from "node:assert/strict";
import { mkdtemp, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, suite, test } from "node:test";
import { KeyRotationFiles } from "./key-rotation.ts";

suite("the files of a rotation of the installation's key", () => {
  let directory: string;
  let files: KeyRotationFiles;
  const path = (end = "") => join(directory, `keys/installation.key${end}`);
  const names = async () => (await readdir(join(directory, "keys"))).sort();

  /** As far as a rotation comes before its commit. */
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), "caisson-rotation-"));
    files = new KeyRotationFiles(directory);
    const next = await files.prepare();
    await writeFile(path(), `caisson-key-1:${"0".repeat(64)}\n`);
    await files.keepPrevious(next);
  });
  afterEach(() => rm(directory, { recursive: true }));

  test("one that was cut off is to be finished once its key is in its place", async () => {
    assert.equal(await files.isToBeFinished(), false, "it goes on with the same key");
    await rename(path(".next"), path());
    assert.equal(await files.isToBeFinished(), true);
    const former = await files.putFormerAway();
    assert.match(await readFile(join(directory, former), "utf8"), /^caisson-key-1:0{64}$/m);
    assert.equal(await files.isToBeFinished(), false);
  });

  test("one that never came to its commit, and whose key was taken away, is begun anew and not finished", async () => {
    await rm(path(".next"));
    // Somebody put it back, without its last line break.
    await writeFile(path(), `caisson-key-1:${"0".repeat(64)}`);
    assert.equal(await files.isToBeFinished(), false);
    assert.deepEqual(await names(), ["installation.key"], "nothing is called a former key that is in use");
  });
});
