import assert from "node:assert/strict";
import { createHash, randomUUID } from "node:crypto";
import { afterEach, beforeEach, suite, test } from "node:test";
import { CaissonError, type ErrorCode, isSlug } from "@caisson/model";
import fc from "fast-check";
import type { Disk, NewDisk, Store } from "../src/store.ts";
import { backupConformance } from "./backup-conformance.ts";
import { joiningConformance } from "./joining-conformance.ts";
import { lossConformance } from "./loss-conformance.ts";
import { nodeConformance } from "./node-conformance.ts";
import { placementConformance } from "./placement-conformance.ts";
import { replicationConformance } from "./replication-conformance.ts";
import {
  SAMPLE_ORGANIZATION,
  SAMPLE_OWNER,
  sampleDisk,
  sampleEvent,
  sampleNode,
  samplePlaces,
  sampleSandbox,
  sampleUsage,
} from "./samples.ts";
import { scheduleConformance } from "./schedule-conformance.ts";
import { takeOverConformance } from "./take-over-conformance.ts";

/** What a driver's test supplies: an empty store, and a way to close it and open the same data again. */
export interface StoreHarness {
  readonly store: Store;
  /** Another store on the same data, with connections of its own, as another process would have. It ends with the harness. */
  openSecond(): Promise<Omit<Store, "close">>;
  reopen(): Promise<Store>;
  dispose(): Promise<void>;
}

/** The shared test suite of the database seam. */
export function storeConformance(name: string, open: () => Promise<StoreHarness>): void {
  nodeConformance(name, open);
  replicationConformance(name, open);
  scheduleConformance(name, open);
  backupConformance(name, open);
  joiningConformance(name, open);
  lossConformance(name, open);
  takeOverConformance(name, open);
  placementConformance(name, open);
  suite(`store: ${name}`, () => {
    let harness: StoreHarness;
    let store: Store;
    const organizationId = SAMPLE_ORGANIZATION;

    const event = sampleEvent;
    const recorded = async (objectId: string) =>
      (await store.events.list(organizationId, objectId, 100)).map(({ verb }) => verb);

    beforeEach(async () => {
      harness = await open();
      store = harness.store;
      for (const slug of ["a", "b"])
        await store.organizations.create({ id: `org_${slug}`, slug, createdAtMs: 1 }, event(`org_${slug}`));
      await store.nodes.begin(sampleNode(), 60_000);
    });
    afterEach(() => harness.dispose());

    const disk = (slug: string, values: Partial<NewDisk> = {}): NewDisk =>
      sampleDisk({ organizationId, slug, ...values });

    const places = (perOrganization: number) => samplePlaces({ perOrganization });
    /** The next run of the node, which finds unsettled what the first one had under way. */
    const next = { ...SAMPLE_OWNER, generation: SAMPLE_OWNER.generation + 1 };
    const measured = (usageMeasuredAtMs: number | null) => sampleUsage({ usageMeasuredAtMs });

    const make = async (slug: string, values: Partial<NewDisk> = {}): Promise<Disk> => {
      const created = disk(slug, values);
      await store.disks.reserve(created);
      const committed = { consistency: created.consistency, ...measured(1000) };
      return store.disks.commit(created.id, committed, event(created.id));
    };

    const sandbox = sampleSandbox;
    const reserved = { kind: "reserved", owner: SAMPLE_OWNER };

    const fails = (code: ErrorCode) => (error: unknown) => error instanceof CaissonError && error.code === code;
    const slugs = async (query: Partial<Parameters<Store["disks"]["list"]>[0]> = {}) =>
      (await store.disks.list({ organizationId, kind: "volume", isDeleted: false, limit: 100, ...query })).map(
        (found) => found.slug,
      );

    test("SSH keys are found by their organization alone, once each, until they are removed", async () => {
      const key = {
        id: "key_1",
        organizationId,
        name: "laptop",
        type: "ssh-ed25519",
        publicKey: "AAAA",
        fingerprint: "SHA256:x",
        createdAtMs: 1000,
      };
      await store.sshKeys.add(key, event("key_1", "ssh-key-add"));
      const again = { ...key, id: "key_2" };
      await assert.rejects(store.sshKeys.add(again, event("key_2")), fails("INVALID_REQUEST"));
      assert.deepEqual(await recorded("key_2"), [], "a refusal writes no event");
      await store.sshKeys.add({ ...again, organizationId: "org_b", createdAtMs: 2000 }, event("key_2"));
      store = await harness.reopen();
      assert.deepEqual(await store.sshKeys.list(organizationId), [key]);
      assert.deepEqual(await store.sshKeys.find(organizationId, "SHA256:x"), key);
      assert.equal(await store.sshKeys.find(organizationId, "SHA256:y"), null);
      assert.equal(await store.sshKeys.remove(organizationId, "key_2", event("key_2", "ssh-key-remove")), false);
      assert.equal(await store.sshKeys.remove(organizationId, "key_1", event("key_1", "ssh-key-remove")), true);
      assert.deepEqual(await recorded("key_1"), ["ssh-key-remove", "ssh-key-add"]);
      assert.equal(await store.sshKeys.find(organizationId, "SHA256:x"), null);
      assert.equal((await store.sshKeys.find("org_b", "SHA256:x"))?.id, "key_2");
    });

    test("a disk is found by id and by slug only after it is committed, and only by its organization", async () => {
      const created = disk("cache");
      await store.disks.reserve(created);
      assert.equal(await store.disks.find(organizationId, "volume", "cache"), null);
      const values = { consistency: null, ...measured(1000) };
      const committed = await store.disks.commit(created.id, values, event(created.id));
      assert.deepEqual(await store.disks.find(organizationId, "volume", "cache"), committed);
      assert.deepEqual(await store.disks.find(organizationId, "volume", created.id), committed);
      assert.equal(await store.disks.find("org_b", "volume", created.id), null);
      assert.equal(await store.disks.find(organizationId, "snapshot", "cache"), null);
      assert.deepEqual({ ...committed, ...measured(1000) }, committed);
    });

    test("volumes and snapshots of an organization share one name space, from the reservation on", async () => {
      await store.disks.reserve(disk("cache"));
      await assert.rejects(store.disks.reserve(disk("cache", { kind: "snapshot" })), fails("SLUG_ALREADY_IN_USE"));
      await store.disks.reserve(disk("cache", { organizationId: "org_b" }));
    });

    test("of many reservations of one slug exactly one wins", async () => {
      const results = await Promise.allSettled(Array.from({ length: 50 }, () => store.disks.reserve(disk("race"))));
      assert.equal(results.filter((result) => result.status === "fulfilled").length, 1);
    });

    test("a creation that is withdrawn frees its slug, cannot be committed any more, and is known until it is forgotten", async () => {
      const undone = disk("cache");
      await store.disks.reserve(undone);
      assert.equal(await store.disks.withdraw(undone.id), null);
      assert.equal(await store.disks.withdraw(undone.id), null);
      const values = { consistency: null, ...measured(1000) };
      await assert.rejects(store.disks.commit(undone.id, values, event(undone.id)), fails("VOLUME_NOT_FOUND"));
      await make("cache");
      assert.deepEqual(
        (await store.disks.listUnsettled(next)).map(({ id, state }) => [id, state]),
        [[undone.id, "purging"]],
      );
      await store.disks.forget(undone.id, null);
      await store.disks.forget(undone.id, event(undone.id));
      assert.equal(await store.disks.get(undone.id), null);
      assert.deepEqual(await recorded(undone.id), []);
    });

    test("a creation that was committed is not withdrawn, and not forgotten", async () => {
      const kept = await make("cache");
      assert.deepEqual(await store.disks.withdraw(kept.id), kept);
      await store.disks.forget(kept.id, null);
      assert.equal((await store.disks.get(kept.id))?.state, "ready");
      assert.equal(await store.disks.withdraw("vol_ord_absent"), null);
    });

    test("each change writes its line of the trail, and a refused one writes none", async () => {
      const volume = disk("cache");
      const { id } = volume;
      await store.disks.reserve(volume);
      await store.disks.commit(id, { consistency: null, ...measured(1000) }, event(id, "create"));
      await store.disks.setLabels(id, { team: "red" }, event(id, "label"));
      await store.disks.beginGrow(SAMPLE_OWNER, id, 2e9);
      await store.disks.finishGrow(id, measured(2000), event(id, "grow"));
      const holder = sandbox();
      await store.sandboxes.reserve(holder, [{ volumeId: id, isReadOnly: false }], places(10));
      await store.sandboxes.commit(holder.id, event(holder.id, "create"));
      await assert.rejects(store.disks.delete(id, 1, 2, event(id, "delete")), fails("VOLUME_IN_USE"));
      await store.sandboxes.finish(holder.id, "killed", 5, event(holder.id, "end"));
      await store.sandboxes.finish(holder.id, "killed", 6, event(holder.id, "end"));
      assert.deepEqual(await recorded(holder.id), ["end", "create"]);
      await store.disks.delete(id, 1, 2, event(id, "delete"));
      await make("cache");
      await assert.rejects(store.disks.restore(id, "cache", event(id, "restore")), fails("SLUG_ALREADY_IN_USE"));
      await store.disks.restore(id, "cache-2", event(id, "restore"));
      await store.disks.delete(id, 1, 2, event(id, "delete"));
      await store.disks.beginPurge(SAMPLE_OWNER, 2);
      await store.disks.forget(id, event(id, "purge"));
      assert.deepEqual(await recorded(id), ["purge", "delete", "restore", "delete", "grow", "label", "create"]);
    });

    test("a list is newest first, pages by sequence and keeps organizations, kinds and states apart", async () => {
      for (const slug of ["one", "two", "three"]) await make(slug);
      await make("snap", { kind: "snapshot", consistency: "clean" });
      await make("other", { organizationId: "org_b" });
      await store.disks.reserve(disk("unfinished"));
      assert.deepEqual(await slugs(), ["three", "two", "one"]);
      const [newest] = await store.disks.list({ organizationId, kind: "volume", isDeleted: false, limit: 1 });
      assert.ok(newest);
      assert.deepEqual(await slugs({ beforeSequence: newest.sequence, limit: 1 }), ["two"]);
    });

    test("search is a substring of the slug in any case, for every length of term", async () => {
      for (const slug of ["my-cache", "cache-2", "data", "ca"]) await make(slug);
      assert.deepEqual(await slugs({ search: "CACHE" }), ["cache-2", "my-cache"]);
      assert.deepEqual(await slugs({ search: "ca" }), ["ca", "cache-2", "my-cache"]);
      assert.deepEqual(await slugs({ search: "-2" }), ["cache-2"]);
      assert.deepEqual(await slugs({ search: "he-" }), ["cache-2"]);
      assert.deepEqual(await slugs({ search: '"%_*' }), []);
      const [first] = await store.disks.list({
        organizationId,
        kind: "volume",
        isDeleted: false,
        limit: 1,
        search: "cache",
      });
      assert.deepEqual(await slugs({ search: "cache", beforeSequence: first?.sequence ?? 0 }), ["my-cache"]);
    });

    test("search finds what a look at every slug would find", async () => {
      const letters = fc.constantFrom("a", "b", "-", "7");
      const made = new Set<string>();
      await fc.assert(
        fc.asyncProperty(
          fc.array(fc.string({ unit: letters, minLength: 2, maxLength: 32 }), { maxLength: 4 }),
          fc.string({ unit: letters, minLength: 1, maxLength: 6 }),
          async (candidates, search) => {
            for (const slug of new Set(candidates.filter((candidate) => isSlug(candidate) && !made.has(candidate)))) {
              await make(slug);
              made.add(slug);
            }
            const found = await slugs({ search, limit: 10_000 });
            assert.deepEqual(found, [...made].filter((slug) => slug.includes(search)).reverse(), search);
          },
        ),
        { numRuns: 200 },
      );
    });

    test("search and labels see one organization and one kind only", async () => {
      await make("mine", { labels: { team: "red" } });
      await make("mine-too", { organizationId: "org_b", labels: { team: "red" } });
      await make("minted", { kind: "snapshot", consistency: "clean", labels: { team: "red" } });
      for (const search of ["m", "mi", "min"]) assert.deepEqual(await slugs({ search }), ["mine"]);
      assert.deepEqual(await slugs({ labels: { team: "red" } }), ["mine"]);
      assert.deepEqual(await slugs({ search: "mi", labels: { team: "red" } }), ["mine"]);
      assert.deepEqual(await slugs({ search: "mi", labels: { team: "blue" } }), []);
    });

    test("search follows deletion, restoring and renaming", async () => {
      const volume = await make("cache");
      await store.disks.delete(volume.id, 10, 20, event(volume.id));
      assert.deepEqual(await slugs({ search: "cache" }), []);
      assert.deepEqual(await slugs({ search: "cache", isDeleted: true }), ["cache"]);
      await store.disks.restore(volume.id, "renamed", event(volume.id));
      assert.deepEqual(await slugs({ search: "cache" }), []);
      assert.deepEqual(await slugs({ search: "named" }), ["renamed"]);
    });

    test("labels filter with AND and may hold any characters", async () => {
      await make("one", { labels: { "a.b": 'x"y', team: "red" } });
      await make("two", { labels: { team: "red" } });
      assert.deepEqual(await slugs({ labels: { team: "red" } }), ["two", "one"]);
      assert.deepEqual(await slugs({ labels: { team: "red", "a.b": 'x"y' } }), ["one"]);
      assert.deepEqual(await slugs({ labels: { team: "blue" } }), []);
      await make("three", { labels: { "a=b": "c", "": "x\0y", é: "日本" } });
      assert.deepEqual(await slugs({ labels: { a: "b=c" } }), []);
      assert.deepEqual(await slugs({ labels: { "a=b": "c" } }), ["three"]);
      assert.deepEqual(await slugs({ labels: { "": "x\0y" } }), ["three"]);
      assert.deepEqual(await slugs({ labels: { é: "日本" } }), ["three"]);
    });

    test("a deleted disk frees its slug, can be restored once, and not over a slug that is taken", async () => {
      const volume = await make("cache");
      await store.disks.delete(volume.id, 10, 20, event(volume.id));
      assert.equal(await store.disks.find(organizationId, "volume", volume.id), null);
      await assert.rejects(store.disks.delete(volume.id, 10, 20, event(volume.id)), fails("VOLUME_NOT_FOUND"));
      await make("cache");
      await assert.rejects(store.disks.restore(volume.id, "cache", event(volume.id)), fails("SLUG_ALREADY_IN_USE"));
      assert.equal((await store.disks.restore(volume.id, "cache-old", event(volume.id))).state, "ready");
      await assert.rejects(store.disks.restore(volume.id, "cache-older", event(volume.id)), fails("VOLUME_NOT_FOUND"));
    });

    test("a purge takes what is due, and repeats until it is forgotten", async () => {
      const [early, late] = [await make("early"), await make("late")];
      await store.disks.delete(early.id, 10, 20, event(early.id));
      await store.disks.delete(late.id, 10, 30, event(late.id));
      assert.deepEqual(
        (await store.disks.beginPurge(SAMPLE_OWNER, 20)).map((found) => found.id),
        [early.id],
      );
      assert.deepEqual(
        (await store.disks.beginPurge(SAMPLE_OWNER, 20)).map((found) => found.id),
        [early.id],
      );
      await assert.rejects(store.disks.restore(early.id, "early", event(early.id)), fails("VOLUME_NOT_FOUND"));
      await store.disks.forget(early.id, event(early.id));
      assert.deepEqual(await store.disks.beginPurge(SAMPLE_OWNER, 20), []);
    });

    test("one disk is purged before its time, and those deleted first come first", async () => {
      const [old, young, kept] = [await make("old"), await make("young"), await make("kept")];
      await store.disks.delete(young.id, 20, 1000, event(young.id));
      await store.disks.delete(old.id, 10, 1000, event(old.id));
      const deleted = async (beforeMs: number, region = "ord") =>
        (await store.disks.listDeleted(SAMPLE_OWNER.nodeId, region, beforeMs, { limit: 10, after: null })).map(
          ({ id }) => id,
        );
      assert.deepEqual(await deleted(100), [old.id, young.id]);
      assert.deepEqual(await deleted(20), [old.id]);
      assert.deepEqual(await deleted(100, "ams"), []);
      // Page by page, also of those that were deleted at one instant, and when the last of a page is purged in between.
      const twin = await make("twin");
      await store.disks.delete(twin.id, 20, 1000, event(twin.id));
      const paged: string[] = [];
      for (let last: Disk | null = null, isDone = false; !isDone; ) {
        if (last?.id === twin.id) await store.disks.beginPurgeOf(SAMPLE_OWNER, twin.id);
        const [next]: readonly Disk[] = await store.disks.listDeleted(SAMPLE_OWNER.nodeId, "ord", 100, {
          limit: 1,
          after: last,
        });
        if (next === undefined) isDone = true;
        else paged.push(next.id);
        last = next ?? null;
      }
      assert.deepEqual(paged, [old.id, ...[young.id, twin.id].sort()]);
      await store.disks.beginPurgeOf(SAMPLE_OWNER, twin.id);
      await store.disks.forget(twin.id, event(twin.id));
      assert.equal((await store.disks.beginPurgeOf(SAMPLE_OWNER, old.id))?.state, "purging");
      assert.equal((await store.disks.beginPurgeOf(SAMPLE_OWNER, old.id))?.id, old.id);
      assert.equal(await store.disks.beginPurgeOf(SAMPLE_OWNER, kept.id), null);
      assert.equal(await store.disks.beginPurgeOf(SAMPLE_OWNER, "vol_ord_none"), null);
      assert.deepEqual(await deleted(100), [young.id]);
      // Each was measured to hold 3 bytes alone.
      assert.deepEqual(await store.disks.sumUsage(SAMPLE_OWNER.nodeId, "ord"), {
        volumesBytes: 3,
        snapshotsBytes: 0,
        deletedBytes: 6,
      });
    });

    test("disks are counted by node, region, kind and state, as they are made, change and go", async () => {
      assert.deepEqual(await store.disks.totals(), []);
      const [first, second] = [await make("first"), await make("second", { organizationId: "org_b" })];
      await make("image", { kind: "snapshot", consistency: "clean" });
      await store.disks.reserve(disk("unfinished", { region: "ams" }));
      await store.disks.setUsage(first.id, { ...measured(2000), exclusiveBytes: 10 });
      await store.disks.delete(second.id, 1, 1, event(second.id));
      const totals = async () =>
        (await store.disks.totals()).map(({ region, kind, state, count, exclusiveBytes }) =>
          [region, kind, state, count, exclusiveBytes].join(" "),
        );
      const others = ["ams volume creating 1 0", "ord snapshot ready 1 3"];
      assert.deepEqual(await totals(), [...others, "ord volume deleted 1 3", "ord volume ready 1 10"]);
      await store.disks.restore(second.id, "again", event(second.id));
      store = await harness.reopen();
      assert.deepEqual(await totals(), [...others, "ord volume ready 2 13"]);
      await store.disks.delete(second.id, 1, 1, event(second.id));
      await store.disks.beginPurge(SAMPLE_OWNER, 2);
      await store.disks.forget(second.id, event(second.id));
      assert.deepEqual(await totals(), [...others, "ord volume ready 1 10"]);
    });

    test("what went wrong with a disk is known until it is acknowledged, and each is told in the trail", async () => {
      const { id } = await make("cache");
      await store.disks.recordError(id, { message: "first", atMs: 5 }, event(id, "damage"));
      await store.disks.recordError(id, { message: "second", atMs: 6 }, event(id, "damage"));
      store = await harness.reopen();
      assert.deepEqual((await store.disks.get(id))?.lastError, { message: "second", atMs: 6 });
      assert.equal((await store.disks.acknowledgeError(id, event(id, "acknowledge"))).lastError, null);
      assert.equal((await store.disks.acknowledgeError(id, event(id, "acknowledge"))).lastError, null);
      assert.deepEqual(await recorded(id), ["acknowledge", "damage", "damage", "test"]);
      await store.disks.recordError("vol_ord_none", { message: "gone", atMs: 5 }, event("vol_ord_none"));
      assert.deepEqual(await recorded("vol_ord_none"), []);
      await assert.rejects(store.disks.acknowledgeError("vol_ord_none", event(id)), fails("VOLUME_NOT_FOUND"));
    });

    test("growing records its intent, and takes effect when it is finished", async () => {
      const volume = await make("cache");
      await store.disks.beginGrow(SAMPLE_OWNER, volume.id, 2e9);
      assert.deepEqual(
        (await store.disks.listUnsettled(next)).map((found) => [found.id, found.capacityBytes, found.growToBytes]),
        [[volume.id, 1e9, 2e9]],
      );
      const grown = await store.disks.finishGrow(volume.id, { ...measured(2000), allocatedBytes: 1 }, event(volume.id));
      assert.deepEqual([grown.capacityBytes, grown.growToBytes, grown.allocatedBytes], [2e9, null, 1]);
      await store.disks.beginGrow(SAMPLE_OWNER, volume.id, 3e9);
      await store.disks.cancelGrow(volume.id);
      assert.deepEqual(await store.disks.listUnsettled(next), []);
    });

    test("the latest measurement stays, and what was measured longest ago is listed first", async () => {
      const [old, fresh, first] = [await make("old"), await make("fresh"), disk("never")];
      await store.disks.reserve(first);
      await store.disks.commit(first.id, { consistency: null, ...measured(null) }, event(first.id));
      await store.disks.setUsage(old.id, { ...measured(2000), flattenedBytes: 20 });
      await store.disks.setUsage(old.id, { ...measured(1500), flattenedBytes: 15 });
      await store.disks.setUsage(fresh.id, measured(9000));
      const deleted = await make("deleted");
      await store.disks.delete(deleted.id, 10, 20, event(deleted.id));
      assert.equal((await store.disks.get(old.id))?.flattenedBytes, 20);
      const unmeasured = async (beforeMs: number, limit = 10) =>
        (await store.disks.listUnmeasured(SAMPLE_OWNER.nodeId, ["ord"], beforeMs, limit)).map(({ slug }) => slug);
      assert.deepEqual(await unmeasured(5000), ["never", "old"]);
      assert.deepEqual(await unmeasured(5000, 1), ["never"]);
      assert.deepEqual(await unmeasured(500), ["never"]);
      await store.disks.setUsage(first.id, measured(1000));
      assert.deepEqual(await unmeasured(500), []);
      assert.deepEqual(await store.disks.listUnmeasured(SAMPLE_OWNER.nodeId, ["ams"], 5000, 10), []);
      const nowMs = Date.now();
      await store.disks.setUsage(first.id, measured(nowMs));
      assert.equal((await store.disks.get(first.id))?.usageMeasuredAtMs, nowMs);
    });

    test("descendants follow the lineage through deleted and purged ancestors' children", async () => {
      const root = await make("root");
      const parent = { kind: "volume", id: root.id, slug: root.slug } as const;
      const snapshot = await make("snap", { kind: "snapshot", consistency: "clean", parent });
      const fork = await make("fork", {
        parent: { kind: "snapshot", id: snapshot.id, slug: "snap" },
        baseSnapshot: { id: snapshot.id, slug: "snap" },
      });
      await store.disks.delete(snapshot.id, 1, 2, event(snapshot.id));
      assert.deepEqual(
        (await store.disks.descendants(organizationId, root.id, 10)).map((found) => found.slug),
        ["fork"],
      );
      assert.deepEqual((await store.disks.get(fork.id))?.baseSnapshot, { id: snapshot.id, slug: "snap" });
      assert.deepEqual(await store.disks.descendants("org_b", root.id, 10), []);
    });

    test("an idempotency key finds the first request's object, refuses another request, and goes with the object", async () => {
      const hash = (text: string) => createHash("sha256").update(text).digest();
      const first = disk("cache");
      assert.deepEqual(await store.disks.reserve(first, { key: "k", requestHash: hash("x") }), {
        existingId: null,
        owner: SAMPLE_OWNER,
      });
      assert.deepEqual(await store.disks.reserve(disk("cache"), { key: "k", requestHash: hash("x") }), {
        existingId: first.id,
      });
      await assert.rejects(
        store.disks.reserve(disk("b2"), { key: "k", requestHash: hash("y") }),
        fails("IDEMPOTENCY_KEY_REUSED"),
      );
      await store.disks.withdraw(first.id);
      assert.deepEqual(await store.disks.reserve(disk("cache"), { key: "k", requestHash: hash("y") }), {
        existingId: null,
        owner: SAMPLE_OWNER,
      });
      await store.disks.expireIdempotencyKeys(5000);
      assert.deepEqual(await store.disks.reserve(disk("b3"), { key: "k", requestHash: hash("z") }), {
        existingId: null,
        owner: SAMPLE_OWNER,
      });
    });

    test("a failed reservation does not keep its idempotency key", async () => {
      await make("cache");
      const key = { key: "k", requestHash: Buffer.from("x") };
      await assert.rejects(store.disks.reserve(disk("cache"), key), fails("SLUG_ALREADY_IN_USE"));
      assert.deepEqual(await store.disks.reserve(disk("cache-2"), key), { existingId: null, owner: SAMPLE_OWNER });
    });

    test("a volume has one writer or many readers, and the one who is refused learns who holds it", async () => {
      const volume = await make("cache");
      const hold = (isReadOnly: boolean) => [{ volumeId: volume.id, isReadOnly }];
      const writer = sandbox();
      assert.deepEqual(await store.sandboxes.reserve(writer, hold(false), places(10)), reserved);
      for (const isReadOnly of [true, false]) {
        const outcome = await store.sandboxes.reserve(sandbox(), hold(isReadOnly), places(10));
        assert.equal(outcome.kind === "held" && outcome.holders[0]?.id, writer.id);
      }
      await assert.rejects(store.disks.delete(volume.id, 1, 2, event(volume.id)), fails("VOLUME_IN_USE"));
      await assert.rejects(store.disks.beginGrow(SAMPLE_OWNER, volume.id, 2e9), fails("VOLUME_IN_USE"));
      const idle = await make("idle");
      assert.deepEqual(await store.sandboxes.writers([volume.id, idle.id]), new Map([[volume.id, writer.id]]));
      await store.sandboxes.finish(writer.id, "killed", 2000, event(writer.id));
      for (let reader = 0; reader < 3; reader += 1) {
        assert.deepEqual(await store.sandboxes.reserve(sandbox(), hold(true), places(10)), reserved);
      }
      assert.equal((await store.sandboxes.reserve(sandbox(), hold(false), places(10))).kind, "held");
      assert.deepEqual(await store.sandboxes.writers([volume.id]), new Map());
    });

    test("a refused reservation leaves nothing, and the concurrency limit counts the organization's live sandboxes", async () => {
      const volume = await make("cache");
      const first = sandbox();
      await store.sandboxes.reserve(first, [], places(1));
      assert.deepEqual(
        await store.sandboxes.reserve(sandbox(), [{ volumeId: volume.id, isReadOnly: false }], places(1)),
        {
          kind: "limit",
          live: 1,
        },
      );
      assert.deepEqual(await store.sandboxes.holders(volume.id), []);
      assert.deepEqual(await store.sandboxes.reserve(sandbox({ organizationId: "org_b" }), [], places(1)), reserved);
      await store.sandboxes.finish(first.id, "killed", 2000, event(first.id));
      assert.deepEqual(await store.sandboxes.reserve(sandbox(), [], places(1)), reserved);
      await assert.rejects(
        store.sandboxes.reserve(sandbox(), [{ volumeId: randomUUID(), isReadOnly: false }], places(5)),
        fails("VOLUME_NOT_FOUND"),
      );
    });

    test("the last places are for organizations with few sandboxes, and a full house is told from an organization's limit", async () => {
      for (const slug of ["c", "d"])
        await store.organizations.create({ id: `org_${slug}`, slug, createdAtMs: 1 }, event(`org_${slug}`));
      const capacity = { places: 5, memoryMib: null };
      await store.nodes.begin(sampleNode({ id: "nod_small", regions: ["small"], capacity }), 60_000);
      const region = "small";
      const limits = { perOrganization: 10, kept: 2, keptEach: 1 };
      const reserve = async (organizationId: string) => {
        const { kind, ...rest } = await store.sandboxes.reserve(sandbox({ region, organizationId }), [], limits);
        return "isKept" in rest ? `${kind}, ${rest.isKept ? "kept" : "all taken"}` : kind;
      };
      for (let count = 0; count < 3; count += 1) assert.equal(await reserve("org_a"), "reserved");
      assert.equal(await reserve("org_a"), "full, kept");
      assert.equal(await reserve("org_b"), "reserved");
      assert.equal(await reserve("org_b"), "full, kept");
      const last = sandbox({ region, organizationId: "org_c" });
      assert.equal((await store.sandboxes.reserve(last, [], limits)).kind, "reserved");
      assert.equal(await reserve("org_d"), "full, all taken");
      await store.sandboxes.finish(last.id, "killed", 2000, event(last.id));
      assert.equal(await reserve("org_d"), "reserved");
    });

    test("the first reason for stopping stays, and a stopped sandbox does not come back", async () => {
      const created = sandbox({ labels: { job: "x" } });
      await store.sandboxes.reserve(created, [], places(10));
      assert.equal((await store.sandboxes.commit(created.id, event(created.id))).status, "running");
      await assert.rejects(store.sandboxes.commit(created.id, event(created.id)));
      await store.sandboxes.beginEnd(created.id, "timeout");
      await store.sandboxes.beginEnd(created.id, "killed");
      await store.sandboxes.finish(created.id, "killed", 2000, event(created.id));
      await store.sandboxes.finish(created.id, "server-restart", 3000, event(created.id));
      await store.sandboxes.beginEnd(created.id, "killed");
      const found = await store.sandboxes.get(organizationId, created.id);
      assert.deepEqual([found?.status, found?.stopReason, found?.stoppedAtMs], ["stopped", "timeout", 2000]);
      assert.equal(await store.sandboxes.get("org_b", created.id), null);
      assert.equal((await store.sandboxes.list(organizationId, 10, { job: "x" })).length, 1);
      await store.sandboxes.expire(2500);
      assert.deepEqual(await store.sandboxes.list(organizationId, 10), []);
    });

    test("sandboxes are listed live ones first, and the newest first of each, as many as are asked for", async () => {
      const made = Array.from({ length: 6 }, (_, index) => sandbox({ labels: { part: String(index % 2) } }));
      for (const one of made) await store.sandboxes.reserve(one, [], places(10));
      await store.sandboxes.reserve(sandbox({ organizationId: "org_b" }), [], places(10));
      for (const index of [1, 2, 5])
        await store.sandboxes.finish(made[index]?.id ?? "", "killed", 10 - index, event(made[index]?.id ?? ""));
      const listed = async (limit: number, labels?: Record<string, string>) =>
        (await store.sandboxes.list(organizationId, limit, labels)).map(({ id }) =>
          made.findIndex((one) => one.id === id),
        );
      assert.deepEqual(await listed(10), [4, 3, 0, 5, 2, 1]);
      assert.deepEqual(await listed(4), [4, 3, 0, 5]);
      assert.deepEqual(await listed(2), [4, 3]);
      assert.deepEqual(await listed(10, { part: "1" }), [3, 5, 1]);
      assert.deepEqual(await listed(10, { part: "2" }), []);
    });

    test("a session that is extended has the latest end that it was promised, until it has ended", async () => {
      const session = sandbox();
      await store.sandboxes.reserve(session, [], places(10));
      const keepUntil = async () => (await store.sandboxes.get(organizationId, session.id))?.keepUntilMs;
      assert.equal(await keepUntil(), null);
      const laterMs = Date.now() + 60_000;
      await store.sandboxes.setKeepUntil(session.id, laterMs);
      await store.sandboxes.setKeepUntil(session.id, laterMs - 1);
      store = await harness.reopen();
      assert.equal(await keepUntil(), laterMs);
      await store.sandboxes.finish(session.id, "killed", 5, event(session.id));
      await store.sandboxes.setKeepUntil(session.id, laterMs + 1);
      assert.equal(await keepUntil(), laterMs);
    });

    test("a token is found by its hash until it is revoked, and only its organization may revoke it", async () => {
      const hash = Buffer.alloc(32, 7);
      const token = { id: "tok_1", organizationId, name: "laptop", createdAtMs: 5 };
      await store.organizations.createToken(token, hash, event(token.id));
      assert.deepEqual(await store.organizations.findToken(hash), {
        token,
        organization: await store.organizations.get(organizationId),
      });
      assert.equal(await store.organizations.revokeToken("org_b", "tok_1", 6, event("tok_1")), false);
      assert.equal(await store.organizations.revokeToken(organizationId, "tok_1", 6, event("tok_1")), true);
      assert.equal(await store.organizations.findToken(hash), null);
      assert.equal(await store.organizations.revokeToken(organizationId, "tok_1", 6, event("tok_1")), false);
      await assert.rejects(
        store.organizations.create({ id: "org_c", slug: "a", createdAtMs: 1 }, event("org_c")),
        fails("SLUG_ALREADY_IN_USE"),
      );
      assert.equal((await recorded("tok_1")).length, 2, "one for the creation, one for the revocation");
      assert.deepEqual(await recorded("org_c"), []);
    });

    test("everything survives closing and opening again", async () => {
      const volume = await make("cache", { labels: { team: "red" } });
      store = await harness.reopen();
      assert.deepEqual(await store.disks.get(volume.id), volume);
      assert.equal((await store.events.list(organizationId, volume.id, 10))[0]?.detail.verb, "test");
      assert.deepEqual(await slugs({ search: "cac" }), ["cache"]);
    });
  });
}
