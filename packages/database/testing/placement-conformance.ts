import assert from "node:assert/strict";
import { afterEach, beforeEach, suite, test } from "node:test";
import { CaissonError } from "@caisson/model";
import { ownerOf } from "../src/records.ts";
import type { NewNode, Owner, ReserveOutcome, SandboxPlacing, Store } from "../src/store.ts";
import type { StoreHarness } from "./conformance.ts";
import {
  beginLapsed,
  SAMPLE_ORGANIZATION,
  sampleDisk,
  sampleEvent,
  sampleNode,
  samplePlaces,
  sampleSandbox,
  sampleUsage,
} from "./samples.ts";

const LEASE_MS = 60_000;
const PLACES = samplePlaces();

/** The part of the store's suite that is about which node gets what is new. */
export function placementConformance(name: string, open: () => Promise<StoreHarness>): void {
  suite(`placement by the store: ${name}`, () => {
    let harness: StoreHarness;
    let store: Store;
    beforeEach(async () => {
      harness = await open();
      store = harness.store;
      for (const slug of ["a", "b", "c", "d"])
        await store.organizations.create({ id: `org_${slug}`, slug, createdAtMs: 1 }, sampleEvent(slug));
    });
    afterEach(() => harness.dispose());

    const begin = async (id: string, values: Partial<NewNode> = {}): Promise<Owner> =>
      ownerOf(await store.nodes.begin(sampleNode({ id, ...values }), LEASE_MS));
    const lapsed = (id: string) => beginLapsed(store, { id });
    const drain = (id: string) => store.nodes.setDraining(id, true, sampleEvent(id));
    const make = async (owner: Owner, slug: string, kind: "volume" | "snapshot" = "volume"): Promise<string> => {
      const disk = sampleDisk({ organizationId: SAMPLE_ORGANIZATION, slug, owner, kind });
      await store.disks.reserve(disk);
      const consistency = kind === "snapshot" ? "clean" : null;
      await store.disks.commit(disk.id, { consistency, ...sampleUsage() }, sampleEvent(disk.id));
      return disk.id;
    };
    const reserve = (
      volumeIds: readonly string[] = [],
      placing: SandboxPlacing = {},
      values: Parameters<typeof sampleSandbox>[0] = {},
    ): Promise<ReserveOutcome> =>
      store.sandboxes.reserve(
        sampleSandbox(values),
        volumeIds.map((volumeId) => ({ volumeId, isReadOnly: true })),
        PLACES,
        placing,
      );
    /** Where it went, or why nowhere, with the nodes that are named. */
    const said = (outcome: ReserveOutcome): string => {
      if (outcome.kind === "reserved") return outcome.owner.nodeId;
      return "nodes" in outcome ? [outcome.kind, ...outcome.nodes.map(({ id }) => id)].join(" ") : outcome.kind;
    };
    const where = async (...options: Parameters<typeof reserve>) => said(await reserve(...options));

    test("a sandbox goes to the live node of its region whose sandboxes have the least memory, and then the fewest places", async () => {
      for (const id of ["nod_a", "nod_b"]) await begin(id);
      await begin("nod_far", { regions: ["ams"] });
      await begin("nod_draining");
      await drain("nod_draining");
      await lapsed("nod_lapsed");
      assert.equal(await where([], {}, { memoryMib: 1000 }), "nod_a");
      assert.equal(await where([], {}, { memoryMib: 600 }), "nod_b");
      assert.equal(await where([], {}, { memoryMib: 400 }), "nod_b");
      assert.equal(await where([], {}, { memoryMib: 50 }), "nod_a", "as much memory in fewer sandboxes");
      assert.equal(await where([], {}, { memoryMib: 1 }), "nod_b");
      assert.equal(await where([], {}, { region: "ams" }), "nod_far");
      assert.equal(await where([], {}, { region: "mars" }), "unavailable");
      const sandboxes = await store.sandboxes.list(SAMPLE_ORGANIZATION, 100);
      assert.deepEqual(new Set(sandboxes.map(({ owner }) => owner.nodeId)), new Set(["nod_a", "nod_b", "nod_far"]));
    });

    test("a node that the caller cannot reach gets nothing while its lease holds", async () => {
      for (const id of ["nod_a", "nod_b"]) await begin(id);
      const disk = (slug: string) => sampleDisk({ organizationId: SAMPLE_ORGANIZATION, slug, owner: null });
      const [near, none] = [{ unreachable: ["nod_a"] }, { unreachable: ["nod_a", "nod_b"] }];
      const made = await store.disks.reserve(disk("near"), null, near);
      assert.equal("owner" in made && made.owner.nodeId, "nod_b");
      await assert.rejects(store.disks.reserve(disk("nowhere"), null, none), { code: "NODE_UNAVAILABLE" });
      for (let count = 0; count < 3; count += 1) assert.equal(await where([], near), "nod_b");
      assert.equal(await where([], none), "unavailable nod_a nod_b");
    });

    test("a node without the root gets a sandbox only when no other can have it", async () => {
      await begin("nod_a", { capacity: { places: 9, memoryMib: null } });
      await begin("nod_b", { capacity: { places: 2, memoryMib: null } });
      const placing = { withoutRoot: ["nod_a"] };
      assert.equal(await where([], placing), "nod_b");
      assert.equal(await where([], placing), "nod_b", "although the other has fewer");
      assert.equal(await where([], placing), "nod_a");
    });

    test("the disks of a sandbox decide on its node, and those of several nodes are told apart", async () => {
      const [mine, other] = [await begin("nod_a"), await begin("nod_b")];
      const [first, second, far] = [await make(mine, "first"), await make(mine, "second"), await make(other, "far")];
      const image = await make(other, "image", "snapshot");
      for (let count = 0; count < 3; count += 1) assert.equal(await where([first, second]), "nod_a");
      assert.equal(await where([], { rootSnapshotId: image }), "nod_b");
      assert.equal(await where([far], { rootSnapshotId: image }), "nod_b");
      assert.deepEqual(await reserve([first, far]), {
        kind: "scattered",
        disks: [
          { id: first, slug: "first", nodeId: "nod_a" },
          { id: far, slug: "far", nodeId: "nod_b" },
        ],
      });
      assert.deepEqual(await reserve([first], { rootSnapshotId: image }), {
        kind: "scattered",
        disks: [
          { id: image, slug: "image", nodeId: "nod_b" },
          { id: first, slug: "first", nodeId: "nod_a" },
        ],
      });
      const isMissing = { code: "SNAPSHOT_NOT_FOUND" };
      await assert.rejects(reserve([], { rootSnapshotId: "snp_ord_none" }), isMissing);
      await store.disks.delete(image, 1, 2, sampleEvent(image));
      await assert.rejects(reserve([], { rootSnapshotId: image }), isMissing);
      await drain("nod_a");
      assert.equal(await where([first]), "draining nod_a");
      assert.equal(await where(), "nod_b");
    });

    test("where nobody can run it, the answer says what would help", async () => {
      const gone = await lapsed("nod_gone");
      const kept = await make(gone, "kept");
      assert.equal(await where(), "unavailable nod_gone");
      assert.equal(await where([kept]), "unavailable nod_gone");
      await begin("nod_draining");
      await drain("nod_draining");
      assert.equal(await where(), "draining nod_draining");
      await begin("nod_full", { capacity: { places: 0, memoryMib: null } });
      await begin("nod_small", { capacity: { places: 2, memoryMib: 2000 } });
      assert.equal(await where(), "nod_small");
      const others = [
        { nodeId: "nod_draining", obstacle: "draining" },
        { nodeId: "nod_full", obstacle: "full" },
        { nodeId: "nod_gone", obstacle: "unavailable" },
      ] as const;
      const stands = (obstacle: string) => [...others, { nodeId: "nod_small", obstacle }];
      assert.deepEqual(await reserve(), { kind: "memory", freeMib: 720, obstacles: stands("memory") });
      assert.equal(await where([], {}, { memoryMib: 100 }), "nod_small");
      assert.deepEqual(await reserve([], {}, { memoryMib: 1 }), {
        ...{ kind: "full", isKept: false, places: 2, kept: 0 },
        obstacles: stands("full"),
      });
      assert.equal(await where([kept]), "unavailable nod_gone", "a node with room does not have the disk");
    });

    test("a tenth of each node's places is kept where no number is given, and never all", async () => {
      const [large] = [
        await begin("nod_a", { capacity: { places: 11, memoryMib: null } }),
        await begin("nod_b", { capacity: { places: 1, memoryMib: null } }),
      ];
      const limits = samplePlaces({ kept: null });
      const outcomes: ReserveOutcome[] = [];
      for (let count = 0; count < 12; count += 1)
        outcomes.push(await store.sandboxes.reserve(sampleSandbox(), [], limits));
      assert.equal(outcomes.filter(({ kind }) => kind === "reserved").length, 10);
      const obstacles = [
        { nodeId: "nod_a", obstacle: "kept" },
        { nodeId: "nod_b", obstacle: "full" },
      ];
      assert.deepEqual(outcomes.at(-1), { kind: "full", isKept: true, places: 12, kept: 2, obstacles });
      const other = await store.sandboxes.reserve(sampleSandbox({ organizationId: "org_b" }), [], limits);
      assert.deepEqual(other, { kind: "reserved", owner: large });
    });

    test("the caller's own node is live whatever its lease says, in its latest run only", async () => {
      const own = await lapsed("nod_own");
      assert.equal(await where(), "unavailable nod_own");
      assert.equal(await where([], { own }), "nod_own");
      const disk = (slug: string) => sampleDisk({ organizationId: SAMPLE_ORGANIZATION, slug, owner: null });
      const made = await store.disks.reserve(disk("mine"), null, { own });
      assert.deepEqual(made, { existingId: null, owner: own });
      await begin("nod_own");
      const isReplaced = { code: "NODE_UNAVAILABLE", message: /nod_own has begun generation 2/ };
      await assert.rejects(reserve([], { own }), isReplaced);
      await assert.rejects(store.disks.reserve(disk("late"), null, { own }), isReplaced);
      assert.equal(await where(), "nod_own");
    });

    test("reservations of two stores at once fill every node to its last place, and none beyond", async () => {
      const second = await harness.openSecond();
      const nodes = [
        ["nod_a", { places: 7, memoryMib: null }],
        ["nod_b", { places: 50, memoryMib: 5 * 1280 }],
        ["nod_c", { places: 3, memoryMib: 3 * 1280 }],
      ] as const;
      for (const [id, capacity] of nodes) await begin(id, { capacity });
      await begin("nod_draining");
      await drain("nod_draining");
      await lapsed("nod_lapsed");
      const wanted = Array.from({ length: 48 }, (_, index) =>
        sampleSandbox({ organizationId: `org_${"abcd"[index % 4]}` }),
      );
      const outcomes = await Promise.all(
        wanted.map((sandbox, index) => (index % 2 === 0 ? store : second).sandboxes.reserve(sandbox, [], PLACES)),
      );
      const counts = Object.groupBy(outcomes, said);
      assert.deepEqual(Object.fromEntries(Object.entries(counts).map(([key, found]) => [key, found?.length])), {
        nod_a: 7,
        nod_b: 5,
        nod_c: 3,
        memory: 33,
      });
      for (const node of await store.nodes.list()) {
        const places = counts[node.id]?.length ?? 0;
        assert.deepEqual(node.reserved, { places, memoryMib: places * 1280 }, node.id);
      }
      // What ends makes room for as many.
      const ended = wanted.filter((_, index) => outcomes[index]?.kind === "reserved").slice(0, 6);
      const again = Promise.all(Array.from({ length: 12 }, () => reserve()));
      await Promise.all(
        ended.flatMap(({ id }) => [store, second].map((one) => one.sandboxes.finish(id, "killed", 5, sampleEvent(id)))),
      );
      const during = (await again).filter(({ kind }) => kind === "reserved").length;
      const after = (await Promise.all(Array.from({ length: 12 }, () => reserve()))).filter(
        ({ kind }) => kind === "reserved",
      ).length;
      assert.equal(during + after, 6);
    });

    test("a node that is alone is never taken for full because others reserve on it just then", async () => {
      const second = await harness.openSecond();
      const owner = await begin("nod_a", { capacity: { places: 60, memoryMib: null } });
      const volume = await make(owner, "shared");
      await begin("nod_b", { capacity: { places: 0, memoryMib: null } });
      const outcomes = await Promise.all(
        Array.from({ length: 60 }, (_, index) =>
          (index % 2 === 0 ? store : second).sandboxes.reserve(
            sampleSandbox({ organizationId: `org_${"abcd"[index % 4]}` }),
            index % 3 === 0 ? [{ volumeId: volume, isReadOnly: true }] : [],
            PLACES,
          ),
        ),
      );
      for (const outcome of outcomes) assert.deepEqual(outcome, { kind: "reserved", owner });
      const obstacles = ["nod_a", "nod_b"].map((nodeId) => ({ nodeId, obstacle: "full" }));
      assert.deepEqual(await reserve(), { kind: "full", isKept: false, places: 60, kept: 0, obstacles });
    });

    test("the only node with room is found among many", async () => {
      for (let index = 0; index < 40; index += 1)
        await begin(`nod_${index}`, { capacity: { places: 10, memoryMib: 100 } });
      const last = await begin("nod_last", { capacity: { places: 3, memoryMib: 5000 } });
      for (let count = 0; count < 3; count += 1) assert.deepEqual(await reserve(), { kind: "reserved", owner: last });
      const refused = await reserve();
      assert.ok(refused.kind === "memory");
      assert.deepEqual([refused.freeMib, refused.obstacles.length], [100, 41]);
      assert.deepEqual(await reserve([], {}, { region: "mars" }), { kind: "unavailable", nodes: [] });
    });

    test("a node that begins again while sandboxes are reserved on it has in its row what it has", async () => {
      const second = await harness.openSecond();
      await begin("nod_a");
      const outcomes = await Promise.all(
        Array.from({ length: 24 }, async (_, index) => {
          if (index % 6 === 5) await second.nodes.begin(sampleNode({ id: "nod_a" }), LEASE_MS);
          return store.sandboxes.reserve(sampleSandbox({ organizationId: `org_${"abcd"[index % 4]}` }), [], PLACES);
        }),
      );
      assert.ok(outcomes.every(({ kind }) => kind === "reserved"));
      assert.deepEqual((await store.nodes.get("nod_a"))?.reserved, { places: 24, memoryMib: 24 * 1280 });
      const last = { nodeId: "nod_a", generation: 5 };
      const old = outcomes.filter((outcome) => outcome.kind === "reserved" && outcome.owner.generation < 5);
      assert.equal((await store.sandboxes.listLeft(last)).length, old.length);
    });

    test("a volume that may be anywhere goes to the live node of its region with the most free bytes, and to one that drains last", async () => {
      const [small, large] = [await begin("nod_a"), await begin("nod_b")];
      const far = await begin("nod_far", { regions: ["ams"] });
      const place = async (slug: string, region = "ord") => {
        const made = await store.disks.reserve(
          sampleDisk({ organizationId: SAMPLE_ORGANIZATION, slug, region, owner: null }),
        );
        return made.existingId === null ? made.owner : null;
      };
      assert.deepEqual(await place("first"), small, "of those that have said nothing any");
      await store.nodes.renew(large, LEASE_MS, { ord: 5 });
      assert.deepEqual(await place("second"), large);
      await store.nodes.renew(small, LEASE_MS, { ord: 2 ** 50, ams: 1 });
      await store.nodes.renew(far, LEASE_MS, { ord: 2 ** 52 });
      assert.deepEqual(await place("third"), small);
      assert.deepEqual(await place("fourth", "ams"), far);
      await drain("nod_a");
      assert.deepEqual(await place("fifth"), large);
      await drain("nod_b");
      assert.deepEqual(await place("sixth"), small);
      await lapsed("nod_a");
      await lapsed("nod_b");
      const isUnavailable = (pattern: RegExp) => (error: unknown) => {
        assert.ok(error instanceof CaissonError && error.code === "NODE_UNAVAILABLE", String(error));
        assert.match(error.message, pattern);
        return true;
      };
      await assert.rejects(
        place("seventh"),
        isUnavailable(
          /anything in region "ord": .* is live and reachable \(nod_a, seen last at .*; nod_b.*\)\. Try again later/,
        ),
      );
      await assert.rejects(place("seventh", "mars"), isUnavailable(/"mars": it has no node/));
      const key = { key: "k", requestHash: Buffer.from("x") };
      const disk = sampleDisk({ organizationId: SAMPLE_ORGANIZATION, slug: "keyed", region: "ams", owner: null });
      assert.deepEqual(await store.disks.reserve(disk, key), { existingId: null, owner: far });
      assert.deepEqual((await store.disks.get(disk.id))?.owner, far);
      await lapsed("nod_far");
      assert.deepEqual(await store.disks.reserve({ ...disk, id: "vol_ams_again" }, key), { existingId: disk.id });
    });
  });
}
