import assert from "node:assert/strict";
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, suite, test } from "node:test";
import type { SnapshotStoreRecord, SnapshotStoreRows } from "@caisson/database";
import {
  ensureInstallationKey,
  readInstallationKeys,
  readUnknownKey,
  replaceInstallationKey,
} from "./installation-key.ts";
import { fingerprintOf, isProofOf } from "./key-file.ts";

suite("the installation's key", () => {
  let directory: string;
  let path: string;
  let replicaCount: number;
  let record: SnapshotStoreRecord;
  const rows: SnapshotStoreRows = {
    get: async () => record,
    async remember(changes) {
      record = { ...record, ...changes };
    },
    countReplicas: async () => replicaCount,
    uploadTotals: () => assert.fail(),
    accept: () => assert.fail("nobody asked for it"),
  };
  const ensure = () => ensureInstallationKey(directory, rows);
  const refusal = (message: RegExp) => ({ code: "SNAPSHOT_STORE_UNAVAILABLE", message });

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), "caisson-key-"));
    path = join(directory, "keys/installation.key");
    replicaCount = 0;
    record = { keyFingerprint: null, storeId: null, marks: [], keyRotation: null };
  });
  afterEach(() => rm(directory, { recursive: true }));

  test("is made once, and the database knows nothing of it but a fingerprint", async () => {
    const key = await ensure();
    assert.ok((await ensure()).equals(key));
    assert.match(record.keyFingerprint ?? "", /^[0-9a-f]{32}$/);
    assert.ok(!JSON.stringify(record).includes(key.toString("hex").slice(0, 16)));
  });

  test("that was lost, or exchanged, is refused and never made anew, until it is back", async () => {
    const key = await ensure();
    const text = await readFile(path);
    await rm(path);
    await assert.rejects(ensure(), refusal(/it is gone\. Put what `caisson keys export` printed back/));
    assert.deepEqual(await readdir(join(directory, "keys")), []);
    await writeFile(path, `caisson-key-1:${"1".repeat(64)}\n`);
    await assert.rejects(ensure(), refusal(/another one/));
    await writeFile(path, "nonsense");
    await assert.rejects(ensure(), refusal(/no key in it/));
    await writeFile(path, text);
    assert.ok((await ensure()).equals(key));
  });

  test("of an older version is remembered, and missed where something is replicated", async () => {
    replicaCount = 1;
    await assert.rejects(ensure(), refusal(/it is gone/));
    replicaCount = 0;
    await ensure();
    record = { ...record, keyFingerprint: null };
    await ensure();
    assert.notEqual(record.keyFingerprint, null);
  });

  test("is replaced only when it is lost", async () => {
    await ensure();
    await assert.rejects(replaceInstallationKey(directory, rows), { code: "INVALID_REQUEST" });
    await rm(path);
    record = { ...record, keyFingerprint: await replaceInstallationKey(directory, rows) };
    await ensure();
  });

  test("that the database does not know is told where it is in the file, and no key of a rotation is taken for one", async () => {
    assert.equal(await readUnknownKey(directory, rows), null, "the first one");
    const former = record.keyFingerprint;
    const [key, newer] = ["0", "1"].map((digit) => `caisson-key-1:${digit.repeat(64)}\n`) as [string, string];
    await writeFile(path, key);
    assert.equal((await readUnknownKey(directory, rows))?.toString("hex"), "0".repeat(64));
    record = { ...record, keyFingerprint: fingerprintOf(Buffer.from("1".repeat(64), "hex")) };
    await writeFile(`${path}.next`, newer);
    assert.equal(await readUnknownKey(directory, rows), null, "a rotation that was cut off is gone on with");
    assert.equal(await readFile(path, "utf8"), newer);
    record = { ...record, keyFingerprint: former };
    for (const text of ["nonsense", null]) {
      await (text === null ? rm(path) : writeFile(path, text));
      assert.equal(await readUnknownKey(directory, rows), null);
    }
  });

  test("comes with the one of a rotation that waits, also after a restart, and misses it where it is not in its file", async () => {
    const current = await ensure();
    const read = () => readInstallationKeys(directory, rows);
    assert.deepEqual(await read(), { current, next: null });
    const next = Buffer.alloc(32, 1);
    const newKeyFingerprint = fingerprintOf(next);
    record = { ...record, keyRotation: { stage: "waiting", newKeyFingerprint, sinceMs: 0 } };
    assert.deepEqual(await read(), { current, next: "absent" });
    for (const text of ["nonsense", `caisson-key-1:${"2".repeat(64)}`]) {
      await writeFile(`${path}.next`, text);
      assert.deepEqual(await read(), { current, next: "absent" });
    }
    await writeFile(`${path}.next`, `caisson-key-1:${next.toString("hex")}`);
    assert.deepEqual(await read(), { current, next });
    record = { ...record, keyRotation: { stage: "finishing", newKeyFingerprint, sinceMs: 0 } };
    assert.deepEqual(await read(), { current, next: null });
  });

  test("is proven by what its text alone gives, as the SDKs make it", () => {
    const key = Buffer.from("0123456789abcdef".repeat(4), "hex");
    const proof = "1e047c16df529b2e836c034e668ce3e7dbb42393995b0671e6bf4e9d58bcba76";
    assert.ok(isProofOf(key, proof));
    for (const other of ["", proof.slice(2), `${proof}00`, fingerprintOf(key), "0".repeat(64)])
      assert.ok(!isProofOf(key, other));
    assert.ok(!isProofOf(Buffer.alloc(32), proof));
  });

  test("is not replaced while the one of a rotation that waits opens everything", async () => {
    await ensure();
    await rm(path);
    const next = Buffer.alloc(32, 1);
    record = { ...record, keyRotation: { stage: "waiting", newKeyFingerprint: fingerprintOf(next), sinceMs: 0 } };
    await writeFile(`${path}.next`, `caisson-key-1:${next.toString("hex")}`);
    await assert.rejects(replaceInstallationKey(directory, rows), { message: /Move it to keys\/installation\.key, / });
    await rm(`${path}.next`);
    record = { ...record, keyFingerprint: await replaceInstallationKey(directory, rows) };
    await ensure();
  });

  test("that a rotation puts into its file meanwhile is not taken for lost", async () => {
    await ensure();
    const newer = Buffer.alloc(32, 1);
    const rotating: SnapshotStoreRows = {
      ...rows,
      async get() {
        await writeFile(path, `caisson-key-1:${newer.toString("hex")}\n`);
        return { ...record, keyFingerprint: fingerprintOf(newer) };
      },
    };
    assert.ok((await ensureInstallationKey(directory, rotating)).equals(newer));
  });

  test("is not replaced while it cannot be read or compared, and what the file had is kept beside a new one", async () => {
    await ensure();
    const text = await readFile(path, "utf8");
    const away = { ...rows, get: () => Promise.reject(new Error("the database is away")) };
    await assert.rejects(replaceInstallationKey(directory, away), { message: "the database is away" });
    assert.equal(await readFile(path, "utf8"), text);
    await rm(path);
    await mkdir(path);
    await assert.rejects(replaceInstallationKey(directory, rows), refusal(/cannot be read \(EISDIR\)/));
    await rm(path, { recursive: true });
    const other = `caisson-key-1:${"1".repeat(64)}\n`;
    await writeFile(path, other);
    record = { ...record, keyFingerprint: await replaceInstallationKey(directory, rows) };
    await ensure();
    const [former, ...more] = (await readdir(join(directory, "keys"))).filter((name) => name !== "installation.key");
    assert.match(former ?? "", /^installation\.key\.former-/);
    assert.equal(await readFile(join(directory, "keys", former ?? ""), "utf8"), other);
    assert.deepEqual(more, []);
  });
});
