import assert from "node:assert/strict";
import { mkdtemp, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, suite, test } from "node:test";
import { fingerprintOf } from "./key-file.ts";
import { finishReplacement, KeyRotationFiles } from "./key-rotation.ts";

suite("the files of a rotation of the installation's key", () => {
  let directory: string;
  let files: KeyRotationFiles;
  let next: Buffer;
  const current = Buffer.alloc(32);
  const path = (end = "") => join(directory, `keys/installation.key${end}`);
  const names = async () => (await readdir(join(directory, "keys"))).sort();

  /** As far as a rotation comes before its finish. */
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), "caisson-rotation-"));
    files = new KeyRotationFiles(directory);
    next = await files.prepare(current);
    await writeFile(path(), `caisson-key-1:${"0".repeat(64)}\n`);
  });
  afterEach(() => rm(directory, { recursive: true }));

  test("the new key stays until it is in its place, and the former one is put away after that", async () => {
    assert.ok((await files.prepare(current)).equals(next), "it goes on with the same key");
    await files.requireNext(next);
    await files.keepPrevious(current);
    await files.replace(next);
    assert.deepEqual(await names(), ["installation.key", "installation.key.previous"]);
    const former = await files.putFormerAway(next);
    assert.match(await readFile(join(directory, former ?? ""), "utf8"), /^caisson-key-1:0{64}$/m);
    assert.equal(await files.putFormerAway(next), null, "again is success");
    assert.match(await readFile(path(), "utf8"), new RegExp(next.toString("hex")));
  });

  test("a copy of the key in use is none that comes in its place", async () => {
    await writeFile(path(".next"), `caisson-key-1:${"0".repeat(64)}\n`);
    assert.ok(!(await files.prepare(current)).equals(current));
  });

  test("one that was taken away meanwhile is missed, and another one is made", async () => {
    await rm(path(".next"));
    await assert.rejects(files.requireNext(next), { message: /was taken away meanwhile/ });
    assert.ok(!(await files.prepare(current)).equals(next));
  });

  test("a finish that never came to its commit calls nothing a former key that is in use", async () => {
    await files.keepPrevious(current);
    assert.equal(await files.putFormerAway(current), null);
    assert.deepEqual(await names(), ["installation.key", "installation.key.next"]);
  });

  test("a former key that was never put away is kept when the next one comes", async () => {
    await files.keepPrevious(current);
    await files.replace(next);
    await files.keepPrevious(next);
    const [, former, previous] = await names();
    assert.match(former ?? "", /^installation\.key\.former-/);
    assert.match(await readFile(path(".previous"), "utf8"), new RegExp(next.toString("hex")));
    assert.equal(previous, "installation.key.previous");
  });

  test("only the key that the database knows is put in its place", async () => {
    assert.equal(await finishReplacement(join(directory, "keys"), fingerprintOf(current)), null);
    await rename(path(".next"), path(".gone"));
    assert.equal(await finishReplacement(join(directory, "keys"), fingerprintOf(next)), null);
    await rename(path(".gone"), path(".next"));
    assert.ok((await finishReplacement(join(directory, "keys"), fingerprintOf(next)))?.equals(next));
    assert.deepEqual(await names(), ["installation.key"]);
  });
});
