import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { after, before, suite, test } from "node:test";
import { testTimeoutMs } from "@caisson/linux/testing";
import type { ObjectStore } from "../src/index.ts";

const MIB = 2 ** 20;

export interface ConformanceHarness extends AsyncDisposable {
  /** A new client of the same objects. */
  open(): Promise<ObjectStore>;
}

/** The contract of `ObjectStore`, which every driver keeps. */
export function objectStoreConformance(name: string, start: () => Promise<ConformanceHarness>): void {
  suite(`object store: ${name}`, { timeout: testTimeoutMs(300_000) }, () => {
    let harness: ConformanceHarness;
    let objects: ObjectStore;
    before(async () => {
      harness = await start();
      objects = await harness.open();
    });
    after(async () => {
      await objects[Symbol.asyncDispose]();
      await harness[Symbol.asyncDispose]();
    });
    const keysBelow = async (prefix: string) => (await Array.fromAsync(objects.list(prefix), ({ key }) => key)).sort();

    test("what was put is there as a whole, for every client, with its size", async () => {
      for (const bytes of [Buffer.alloc(0), Buffer.from("text"), randomBytes(MIB + 29)]) {
        const key = `sizes/of-${bytes.length}`;
        await objects.put(key, bytes);
        await using other = await harness.open();
        assert.ok((await other.get(key, 2 * MIB))?.equals(bytes));
      }
      const found = await Array.fromAsync(objects.list("sizes/"));
      assert.deepEqual(
        found.sort((one, other) => one.sizeBytes - other.sizeBytes),
        [0, 4, MIB + 29].map((sizeBytes) => ({ key: `sizes/of-${sizeBytes}`, sizeBytes })),
      );
    });

    test("what is absent is null, and no error to list or delete", async () => {
      assert.equal(await objects.get("absent/one", 1), null);
      assert.deepEqual(await keysBelow("absent/"), []);
      await objects.delete("absent/one");
    });

    test("a put replaces the whole object, and a delete takes it away, also when it is repeated", async () => {
      await objects.put("replaced/one", randomBytes(1000));
      await objects.put("replaced/one", Buffer.from("short"));
      assert.equal((await objects.get("replaced/one", 10))?.toString(), "short");
      await objects.delete("replaced/one");
      await objects.delete("replaced/one");
      assert.equal(await objects.get("replaced/one", 10), null);
      assert.deepEqual(await keysBelow("replaced/"), []);
    });

    test("a list has what is below its folder and nothing else, each once, however many there are", async () => {
      const names = Array.from({ length: 1010 }, (_, index) => `many/${index % 3}/${String(index).padStart(4, "0")}`);
      for (let at = 0; at < names.length; at += 50)
        await Promise.all(names.slice(at, at + 50).map((key) => objects.put(key, Buffer.of(1))));
      await objects.put("many-others/one", Buffer.of(1));
      await objects.put("many/1.5", Buffer.of(1));
      const sorted = [...names, "many/1.5"].sort();
      assert.deepEqual(await keysBelow("many/"), sorted);
      assert.deepEqual(
        await keysBelow("many/1/"),
        sorted.filter((key) => key.startsWith("many/1/")),
      );
    });

    test("of two puts of one key at once, one is there as a whole", async () => {
      const [one, other] = [Buffer.alloc(MIB, 1), Buffer.alloc(MIB / 2, 2)];
      await Promise.all([objects.put("raced/key", one), objects.put("raced/key", other)]);
      const found = await objects.get("raced/key", MIB);
      assert.ok(found?.equals(one) || found?.equals(other));
    });

    test("an object that is larger than it may be is not read", async () => {
      await objects.put("large/one", Buffer.alloc(1000));
      await assert.rejects(objects.get("large/one", 999), (error: Error & { readonly code?: string }) => {
        assert.match(String(error.cause), /large\/one has 1000 bytes, and at most 999/);
        assert.ok(!error.message.includes("large/one"), "tenants read it");
        return error.code === "SNAPSHOT_STORE_UNAVAILABLE";
      });
    });

    test("an aborted call ends with the reason", async () => {
      const reason = new Error("no longer wanted");
      const signal = AbortSignal.abort(reason);
      await assert.rejects(objects.put("aborted/one", Buffer.of(1), signal), reason);
      await assert.rejects(objects.get("aborted/one", 1, signal), reason);
      await assert.rejects(Array.fromAsync(objects.list("aborted/", signal)), reason);
      await assert.rejects(objects.delete("aborted/one", signal), reason);
    });

    test("keys that could lead elsewhere are refused", async () => {
      for (const key of ["", "/", "../up", "a/../b", "a//b", ".partial/x", "a b", "a/", "a/.hidden"])
        await assert.rejects(objects.put(key, Buffer.of(1)), /no key/, key);
    });
  });
}
