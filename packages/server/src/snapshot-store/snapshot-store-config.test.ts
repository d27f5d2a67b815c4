import assert from "node:assert/strict";
import { test } from "node:test";
import { parseSnapshotStore } from "./snapshot-store-config.ts";

test("a store is a bucket or a directory", () => {
  const bucket = parseSnapshotStore({ url: "s3://bucket/a%20b", regions: { ord: "none" } });
  assert.equal(bucket?.url, "s3://bucket/a%20b");
  assert.deepEqual([...(bucket?.policies ?? [])], [["ord", "none"]]);
  assert.equal(parseSnapshotStore({ url: "file:///mnt/far" })?.url, "file:///mnt/far");
});

test("what would be ignored, or fail later, is refused, and no error repeats a secret", () => {
  const wrong = [
    ["s3://:secret@bucket", /credentials/],
    ["s3://name:secret@bucket/prefix", /credentials/],
    ["s3://name@bucket", /credentials/],
    ["s3://bucket:9000/prefix", /port 9000.*snapshot_store\.endpoint/],
    ["s3://bucket/%zz", /percent sign/],
    ["file:///mnt/%zz", /percent sign/],
    ["file:///mnt/a%2Fb", /percent sign/],
    ["s3://bucket/a#b", /give s3:\/\/BUCKET/],
    ["file:///mnt/a?b", /give s3:\/\/BUCKET/],
    ["s3:///prefix", /give s3:\/\/BUCKET/],
    ["https://bucket", /give s3:\/\/BUCKET/],
  ] as const;
  for (const [url, message] of wrong)
    assert.throws(
      () => parseSnapshotStore({ url }),
      (error: Error & { readonly code?: string }) => {
        assert.match(error.message, message, url);
        assert.ok(!error.message.includes("secret@"), url);
        return error.code === "INVALID_CONFIG";
      },
    );
  const url = "s3://bucket";
  for (const backup_every of ["", "0m", "often", "1h", "1441m"])
    assert.throws(() => parseSnapshotStore({ url, backup_every }), {
      code: "INVALID_CONFIG",
      message: /snapshot_store\.backup_every/,
    });
  assert.equal(parseSnapshotStore({ url })?.backupEveryMs, 900_000);
  assert.equal(parseSnapshotStore({ url, backup_every: "off" })?.backupEveryMs, null);
  assert.equal(parseSnapshotStore({ url, backup_every: "90s" })?.backupEveryMs, 90_000);
  assert.throws(() => parseSnapshotStore({ url: "s3://bucket", regions: { chicago: "none" } }), {
    code: "INVALID_CONFIG",
    message: /snapshot_store\.regions names "chicago"/,
  });
});
