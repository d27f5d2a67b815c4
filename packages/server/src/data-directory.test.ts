import assert from "node:assert/strict";
import { chmod, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, suite, test } from "node:test";
import { lockDataDirectory, makeDataDirectory } from "./data-directory.ts";

suite("the data directory", () => {
  let parent: string;
  beforeEach(async () => {
    parent = await mkdtemp(join(tmpdir(), "caisson-data-"));
    await chmod(parent, 0o711);
  });
  afterEach(() => rm(parent, { recursive: true }));

  /** As a start does that fails when it has made `files`. */
  const start = async (directory: string, files: readonly string[] = []): Promise<void> => {
    await using undo = new AsyncDisposableStack();
    const made = await makeDataDirectory(directory);
    undo.use(await lockDataDirectory(directory));
    undo.use(made);
    for (const name of files) await writeFile(join(directory, name), "");
  };

  test("goes again, with those above it that were made for it, when a start has kept nothing in it", async () => {
    await start(join(parent, "new/data"));
    assert.deepEqual(await readdir(parent), []);
  });

  test("stays when something is in it, and when it was there before", async () => {
    const directory = join(parent, "data");
    await start(directory, ["installation.json"]);
    assert.deepEqual(await readdir(parent), ["data"]);
    await rm(join(directory, "installation.json"));
    await start(directory);
    assert.deepEqual(await readdir(directory), ["server.lock"]);
  });

  test("stays, and hides no error of the start, when it cannot go", async () => {
    const directory = join(parent, "data");
    const fail = async (prepare: () => Promise<void>): Promise<void> => {
      await using _made = await makeDataDirectory(directory);
      await prepare();
      throw new Error("why the start failed");
    };
    await assert.rejects(
      fail(() => rm(directory, { recursive: true })),
      { message: "why the start failed" },
    );
    // As another start does that has not got the lock yet.
    await assert.rejects(
      fail(async () => {
        await rm(directory, { recursive: true });
        await writeFile(directory, "");
      }),
      { message: "why the start failed" },
    );
    assert.deepEqual(await readdir(parent), ["data"]);
  });

  test("is not made below a directory that sandboxes could not pass", async () => {
    await chmod(parent, 0o700);
    await assert.rejects(makeDataDirectory(join(parent, "new/data")), {
      code: "INVALID_CONFIG",
      message: /chmod o\+x/,
    });
    assert.deepEqual(await readdir(parent), []);
  });
});
