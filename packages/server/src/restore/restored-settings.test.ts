import assert from "node:assert/strict";
import { test } from "node:test";
import { parse } from "smol-toml";
import { restoredSettings } from "./restored-settings.ts";

const NOTHING = { endpoint: undefined, region: undefined, path_style: undefined, ca: undefined };
const settings = (text: string) => [{ path: "caisson.toml", mode: 0o600, bytes: Buffer.from(text) }];

test("settings come back as they were, comments and all, where the store is still there", () => {
  const text =
    '# ours\nregions = ["ams"]\n[snapshot_store]\nurl = "file:///mnt/far" # the disk\nbackup_keep_days = 3\n';
  const restored = restoredSettings(settings(text), { url: "file:///mnt/far", ...NOTHING });
  assert.deepEqual(restored, { text, formerText: null, hadDatabase: false });
});

test("a store at another place is the one that the settings name then, and the rest of them stays", () => {
  const text =
    'database = "postgres://db/x"\n[snapshot_store]\nurl = "s3://b/p"\nendpoint = "http://old"\ngrace_hours = 2\n';
  const restored = restoredSettings(settings(text), { url: "file:///mnt/far", ...NOTHING });
  assert.deepEqual(JSON.parse(JSON.stringify(parse(restored.text))), {
    database: "postgres://db/x",
    snapshot_store: { url: "file:///mnt/far", grace_hours: 2 },
  });
  assert.equal(restored.formerText, text);
  assert.equal(restored.hadDatabase, true);
});
