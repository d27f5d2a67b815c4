import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { pathToFileURL } from "node:url";
import { parseSnapshotStore } from "../snapshot-store/snapshot-store-config.ts";
import { checkInstallationKey } from "./key-check.ts";

test("a rotation that is not at its end is told by the store alone", async () => {
  const directory = await mkdtemp(join(tmpdir(), "caisson-doctor-"));
  try {
    const config = parseSnapshotStore({ url: pathToFileURL(directory).href });
    assert.ok(config);
    const check = () => checkInstallationKey(config);
    assert.equal((await check()).status, "ok", "an empty store");
    await mkdir(join(directory, "installations"));
    for (const [id, status] of [
      ["0", "ok"],
      ["1", "warning"],
    ] as const) {
      await writeFile(join(directory, "installations", id.repeat(16)), "{}");
      assert.equal((await check()).status, status);
    }
    assert.match((await check()).remedy ?? "", /`caisson keys finish --key FILE`/);
    await rm(directory, { recursive: true });
    assert.equal((await check()).status, "warning", "nobody knows");
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
});
