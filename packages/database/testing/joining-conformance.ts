import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { afterEach, beforeEach, suite, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { CaissonError } from "@caisson/model";
import type { Joining, JoinOutcome, Store } from "../src/store.ts";
import type { StoreHarness } from "./conformance.ts";
import { SAMPLE_ORGANIZATION, sampleEvent, sampleNode } from "./samples.ts";

const LIFETIME_MS = 60_000;
const hash = (text: string): Uint8Array => createHash("sha256").update(text).digest();
const machine = (name: string, values: Partial<Joining> = {}): Joining => ({
  nodeId: `nod_${name}`,
  keyFingerprint: `SHA256:${name}`,
  address: `${name}.example:9077`,
  ...values,
});
const refused = (reason: string) => ({ kind: "refused", reason });

/** The part of the store's suite that is about how machines become nodes. */
export function joiningConformance(name: string, open: () => Promise<StoreHarness>): void {
  suite(`joining in the store: ${name}`, () => {
    let harness: StoreHarness;
    let store: Store;
    beforeEach(async () => {
      harness = await open();
      store = harness.store;
    });
    afterEach(() => harness.dispose());

    const recorded = async (objectId: string) =>
      (await store.events.list(SAMPLE_ORGANIZATION, objectId, 100)).map(({ verb }) => verb);
    const createToken = (id: string, { region = null as string | null, lifetimeMs = LIFETIME_MS } = {}) =>
      store.joining.createToken({ id, region }, hash(id), lifetimeMs, sampleEvent(id, "create"));

    test("of several who make the authority at once in two stores one succeeds, and all get the same", async () => {
      assert.deepEqual(await store.joining.authorities(), []);
      const second = await harness.openSecond();
      const made = await Promise.all(
        Array.from({ length: 12 }, (_, index) =>
          (index % 2 === 0 ? store : second).joining.makeAuthority(
            { certificate: `certificate ${index}`, privateKey: `key ${index}` },
            sampleEvent("authority", "make"),
          ),
        ),
      );
      for (const authorities of made) assert.deepEqual(authorities, made[0]);
      assert.deepEqual(await recorded("authority"), ["make"]);
      store = await harness.reopen();
      assert.deepEqual(await store.joining.authorities(), made[0]);
      const [authority, another] = made[0] ?? [];
      assert.deepEqual([authority?.number, another], [1, undefined]);
      assert.equal(authority?.certificate.split(" ")[1], authority?.privateKey?.split(" ")[1]);
    });

    const keys = (name: string) => ({ certificate: `certificate ${name}`, privateKey: `key ${name}` });

    test("of several who add an authority at once in two stores one does, and only beside the one that there is", async () => {
      const event = sampleEvent("authority", "renew");
      assert.equal(await store.joining.addAuthority(keys("a"), 1, event), false);
      await store.joining.makeAuthority(keys("a"), sampleEvent("authority", "make"));
      assert.equal(await store.joining.addAuthority(keys("b"), 2, event), false);
      const second = await harness.openSecond();
      const added = await Promise.all(
        Array.from({ length: 8 }, (_, index) =>
          (index % 2 === 0 ? store : second).joining.addAuthority(keys(String(index)), 1, event),
        ),
      );
      assert.equal(added.filter(Boolean).length, 1);
      const winner = { number: 2, ...keys(String(added.indexOf(true))) };
      assert.deepEqual(await second.joining.authorities(), [{ number: 1, ...keys("a") }, winner]);
      for (const beside of [1, 2]) assert.equal(await store.joining.addAuthority(keys("c"), beside, event), false);
      assert.deepEqual(await recorded("authority"), ["renew", "make"]);
      assert.deepEqual(await store.joining.makeAuthority(keys("d"), event), await store.joining.authorities());
    });

    test("an authority is retired with its key and the tokens that name it, and not without a word while nodes would be locked out", async () => {
      const event = sampleEvent("authority", "retire");
      const retire = (number: number, isLockingOut = false) =>
        store.joining.retireAuthority(number, isLockingOut, event);
      await store.joining.makeAuthority(keys("a"), sampleEvent("authority", "make"));
      assert.deepEqual(await retire(1, true), { kind: "stale" }, "it is the only one");
      for (const name of ["a", "b", "c", "lost"]) {
        await createToken(`jtk_${name}`);
        await store.joining.join(hash(`jtk_${name}`), machine(name), sampleEvent(`nod_${name}`, "join"));
      }
      await createToken("jtk_1");
      // That of a server's own process shows no certificate.
      await store.nodes.begin(sampleNode({ id: "nod_own", address: "server.example" }), LIFETIME_MS);
      await store.nodes.begin(sampleNode({ id: "nod_own6", address: "2001:db8::1" }), LIFETIME_MS);
      await store.nodes.giveUp("nod_lost", sampleEvent("nod_lost", "give-up"));
      await store.joining.addAuthority(keys("b"), 1, sampleEvent("authority", "renew"));
      const seen = (id: string, authority: number) =>
        store.nodes.setCertificate(id, { untilMs: 1000, authority, oldestAuthority: null }, null);
      await seen("nod_a", 1);
      await seen("nod_b", 2);
      await store.nodes.setAddress("nod_c", "[2001:db8::2]:8485", sampleEvent("nod_c", "set-address"));
      assert.deepEqual(await retire(2, true), { kind: "stale" }, "it is the newer one");
      assert.deepEqual(await retire(1), { kind: "refused", nodeIds: ["nod_a", "nod_c"] });
      assert.equal((await store.joining.listTokens()).length, 5);
      await seen("nod_a", 2);
      await seen("nod_c", 2);
      const second = await harness.openSecond();
      const outcomes = await Promise.all(
        [store, second, store].map(({ joining }) => joining.retireAuthority(1, false, event)),
      );
      assert.deepEqual(outcomes.map(({ kind }) => kind).toSorted(), ["retired", "stale", "stale"]);
      store = await harness.reopen();
      assert.deepEqual(await store.joining.authorities(), [
        { ...keys("a"), number: 1, privateKey: null },
        { ...keys("b"), number: 2 },
      ]);
      assert.deepEqual(await store.joining.listTokens(), []);
      assert.deepEqual(await store.joining.join(hash("jtk_1"), machine("d"), sampleEvent("nod_d")), refused("unknown"));
      assert.deepEqual(await recorded("authority"), ["retire", "renew", "make"]);

      assert.equal(await store.joining.addAuthority(keys("c"), 2, sampleEvent("authority", "renew")), true);
      assert.equal((await retire(2)).kind, "refused");
      assert.deepEqual(await retire(2, true), { kind: "retired" });
    });

    test("a token makes one machine a node, which has an address before its first run and nothing else", async () => {
      const created = await createToken("jtk_1", { region: "ord" });
      assert.deepEqual(
        [created.id, created.region, created.nodeId, created.expiresAtMs - created.createdAtMs],
        ["jtk_1", "ord", null, LIFETIME_MS],
      );
      assert.ok(Math.abs(created.createdAtMs - Date.now()) < 3_600_000, "the times are those of a clock");
      const joined = await store.joining.join(hash("jtk_1"), machine("a"), sampleEvent("nod_a", "join"));
      assert.ok(joined.kind === "joined" && !joined.isAgain);
      assert.deepEqual(joined.token, { ...created, nodeId: "nod_a" });
      store = await harness.reopen();
      const node = await store.nodes.get("nod_a");
      assert.deepEqual(node, joined.node);
      assert.deepEqual(
        [node?.generation, node?.address, node?.regions, node?.isLive, node?.isDraining],
        [0, "a.example:9077", ["ord"], false, false],
      );
      assert.deepEqual([await recorded("jtk_1"), await recorded("nod_a")], [["create"], ["join"]]);
      const begun = await store.nodes.begin(sampleNode({ id: "nod_a" }), LIFETIME_MS);
      assert.deepEqual([begun.generation, begun.isLive], [1, true]);
    });

    test("a node has no region but that of its token, whatever it says", async () => {
      const isRefused = (error: unknown) =>
        error instanceof CaissonError &&
        error.code === "NODE_UNAVAILABLE" &&
        /^The node nod_a has joined with a token for region "ord" alone/.test(error.message);
      await createToken("jtk_1", { region: "ord" });
      await store.joining.join(hash("jtk_1"), machine("a"), sampleEvent("nod_a", "join"));
      const begin = (id: string, ...regions: string[]) => store.nodes.begin(sampleNode({ id, regions }), LIFETIME_MS);
      await assert.rejects(begin("nod_a", "ams"), isRefused);
      await assert.rejects(begin("nod_a"), isRefused);
      const before = await store.nodes.get("nod_a");
      assert.deepEqual([before?.generation, before?.isLive, before?.regions], [0, false, ["ord"]]);
      await begin("nod_a", "ord");
      store = await harness.reopen();
      // Also when nothing knows of its token any more.
      await store.joining.expireTokens(Date.now() + 2 * LIFETIME_MS);
      await assert.rejects(begin("nod_a", "ord", "ams"), isRefused);
      assert.deepEqual((await store.nodes.get("nod_a"))?.regions, ["ord"]);
      assert.equal((await begin("nod_a", "ord")).generation, 2);
    });

    test("a node whose token gives it no region has those that it says", async () => {
      await createToken("jtk_1");
      await store.joining.join(hash("jtk_1"), machine("a"), sampleEvent("nod_a", "join"));
      for (const regions of [["ord", "ams"], ["ams"]])
        assert.deepEqual((await store.nodes.begin(sampleNode({ id: "nod_a", regions }), LIFETIME_MS)).regions, regions);
    });

    test("a machine that repeats its joining keeps the id it got, and another one is refused", async () => {
      await createToken("jtk_1");
      await store.joining.join(hash("jtk_1"), machine("a"), sampleEvent("nod_a", "join"));
      await store.nodes.begin(sampleNode({ id: "nod_a" }), LIFETIME_MS);
      const moved = machine("a", { nodeId: "nod_other", address: "10.0.0.2:9077" });
      const again = await store.joining.join(hash("jtk_1"), moved, sampleEvent("nod_a", "join"));
      assert.ok(again.kind === "joined" && again.isAgain);
      assert.deepEqual([again.node.id, again.node.address, again.node.generation], ["nod_a", "10.0.0.2:9077", 1]);
      assert.deepEqual(await store.joining.join(hash("jtk_1"), machine("b"), sampleEvent("nod_b")), refused("used"));
      assert.deepEqual(
        (await store.nodes.list()).map(({ id }) => id),
        ["nod_a"],
      );
      assert.deepEqual([await recorded("nod_a"), await recorded("nod_b")], [["join"], []]);
    });

    test("of machines that use one token at once in two stores one becomes a node, however often each tries", async () => {
      const second = await harness.openSecond();
      for (let round = 0; round < 8; round += 1) {
        const text = `jtk_${round}`;
        await createToken(text);
        // Each try of a machine brings an id of its own.
        const attempts = Array.from({ length: 12 }, (_, index) => ({
          name: `${round}-${index % 3}`,
          joining: machine(`${round}-${index % 3}`, { nodeId: `nod_${round}-${index}` }),
        }));
        const outcomes = await Promise.all(
          attempts.map(({ joining }, index) =>
            (index % 2 === 0 ? store : second).joining.join(hash(text), joining, sampleEvent(text, "join")),
          ),
        );
        const joined = attempts.filter((_, index) => outcomes[index]?.kind === "joined");
        assert.equal(joined.length, 4, "every try of the one");
        assert.equal(new Set(joined.map((attempt) => attempt.name)).size, 1);
        const isJoined = (outcome: JoinOutcome) => outcome.kind === "joined";
        assert.equal(new Set(outcomes.filter(isJoined).map(({ node }) => node.id)).size, 1);
        assert.ok(outcomes.every((outcome) => isJoined(outcome) || outcome.reason === "used"));
        assert.deepEqual(await recorded(text), ["join", "create"]);
      }
      assert.equal((await store.nodes.list()).length, 8);
    });

    test("a token that is unknown, has expired or was revoked makes nobody a node, by the clock of the store", async () => {
      await createToken("jtk_late", { lifetimeMs: 1 });
      await createToken("jtk_used");
      await createToken("jtk_1");
      const join = (text: string) => store.joining.join(hash(text), machine("a"), sampleEvent("nod_a"));
      assert.equal((await join("jtk_used")).kind, "joined");
      assert.deepEqual(await join("jtk_none"), refused("unknown"));
      for (const untilMs = Date.now() + 30_000; (await store.joining.listTokens()).length > 2; await delay(5))
        assert.ok(Date.now() < untilMs, "a token of one millisecond does not expire");
      assert.deepEqual(await join("jtk_late"), refused("expired"));
      const listed = (await store.joining.listTokens()).map(({ id, nodeId }) => [id, nodeId]);
      assert.deepEqual(listed.toSorted(), [
        ["jtk_1", null],
        ["jtk_used", "nod_a"],
      ]);
      assert.equal(await store.joining.revokeToken("jtk_late", sampleEvent("jtk_late", "revoke")), false);
      assert.equal(await store.joining.revokeToken("jtk_1", sampleEvent("jtk_1", "revoke")), true);
      assert.equal(await store.joining.revokeToken("jtk_1", sampleEvent("jtk_1", "revoke")), false);
      assert.deepEqual(await join("jtk_1"), refused("unknown"));
      assert.deepEqual([await recorded("jtk_late"), await recorded("jtk_1")], [["create"], ["revoke", "create"]]);
      await store.joining.expireTokens(0);
      assert.deepEqual(await join("jtk_late"), refused("expired"));
      await store.joining.expireTokens(Date.now() + LIFETIME_MS / 2);
      assert.deepEqual(await join("jtk_late"), refused("unknown"));
      assert.equal((await join("jtk_used")).kind, "joined", "what has not expired is kept");
    });

    test("a machine that is a node already comes back with another token, and keeps its row", async () => {
      await createToken("jtk_1", { region: "ord" });
      await createToken("jtk_2");
      await createToken("jtk_3");
      await store.joining.join(hash("jtk_1"), machine("a"), sampleEvent("nod_a", "join"));
      await store.nodes.begin(sampleNode({ id: "nod_a", regions: ["ord"] }), LIFETIME_MS);
      const known = machine("a", { address: "10.0.0.2:9077", isNode: true });
      const back = await store.joining.join(hash("jtk_2"), known, sampleEvent("nod_a", "rejoin"));
      assert.ok(back.kind === "joined" && !back.isAgain);
      assert.deepEqual([back.node.id, back.node.address, back.node.generation], ["nod_a", "10.0.0.2:9077", 1]);
      assert.equal((await store.nodes.list()).length, 1);
      const again = await store.joining.join(hash("jtk_2"), known, sampleEvent("nod_a", "rejoin"));
      assert.ok(again.kind === "joined" && again.isAgain);
      const stranger = machine("b", { nodeId: "nod_b", isNode: true });
      assert.deepEqual(
        await store.joining.join(hash("jtk_2"), stranger, sampleEvent("nod_b", "rejoin")),
        refused("used"),
      );
      // That it was forgotten takes nothing from the token.
      assert.deepEqual(
        await store.joining.join(hash("jtk_3"), stranger, sampleEvent("nod_b", "rejoin")),
        refused("forgotten"),
      );
      const joined = await store.joining.join(hash("jtk_3"), machine("c"), sampleEvent("nod_c", "join"));
      assert.equal(joined.kind, "joined");
      assert.deepEqual([await recorded("nod_a"), await recorded("nod_b")], [["rejoin", "join"], []]);
    });

    test("which certificate a node has is kept, with an event for a renewal alone, and not of a node that is none", async () => {
      await createToken("jtk_1");
      await store.joining.join(hash("jtk_1"), machine("a"), sampleEvent("nod_a", "join"));
      assert.equal((await store.nodes.get("nod_a"))?.certificateUntilMs, null);
      const set = (id: string, untilMs: number, authority: number, oldestAuthority: number | null, verb?: string) =>
        store.nodes.setCertificate(
          id,
          { untilMs, authority, oldestAuthority },
          verb === undefined ? null : sampleEvent(id, verb),
        );
      const known = async () => {
        const node = await store.nodes.get("nod_a");
        return [node?.certificateUntilMs, node?.certificateAuthority, node?.oldestAuthority];
      };
      assert.deepEqual(await known(), [null, null, null]);
      assert.equal(await set("nod_a", 1000, 2, null), true);
      assert.deepEqual(await known(), [1000, 2, null]);
      assert.equal(await set("nod_a", 2 ** 42, 3, 2, "renew"), true);
      assert.equal(await set("nod_z", 1000, 1, 1, "renew"), false);
      store = await harness.reopen();
      assert.deepEqual(await known(), [2 ** 42, 3, 2]);
      await set("nod_a", 2 ** 42, 3, null);
      assert.deepEqual(await known(), [2 ** 42, 3, 2]);
      // What came of a machine that joins again is not known before it is seen.
      await store.joining.join(hash("jtk_1"), machine("a"), sampleEvent("nod_a", "join"));
      assert.deepEqual(await known(), [2 ** 42, null, null]);
      await set("nod_a", 1000, 3, 3);
      await createToken("jtk_2");
      await store.joining.join(hash("jtk_2"), machine("a", { isNode: true }), sampleEvent("nod_a", "rejoin"));
      assert.deepEqual(await known(), [1000, null, null]);
      await store.nodes.giveUp("nod_a", sampleEvent("nod_a", "give-up"));
      assert.equal(await set("nod_a", 3000, 1, 1, "renew"), false);
      assert.deepEqual(
        [await recorded("nod_a"), await recorded("nod_z")],
        [["give-up", "rejoin", "renew", "join"], []],
      );
    });

    test("a machine whose node was forgotten does not come back with its token, but joins anew with another", async () => {
      await createToken("jtk_1");
      await createToken("jtk_2");
      await store.joining.join(hash("jtk_1"), machine("a"), sampleEvent("nod_a"));
      await store.nodes.forget("nod_a", sampleEvent("nod_a"));
      const again = await store.joining.join(hash("jtk_1"), machine("a"), sampleEvent("nod_a"));
      assert.deepEqual(again, refused("forgotten"));
      await assert.rejects(
        store.nodes.begin(sampleNode({ id: "nod_a" }), LIFETIME_MS),
        (error) => error instanceof CaissonError && error.code === "NODE_UNAVAILABLE",
      );
      const anew = await store.joining.join(hash("jtk_2"), machine("a", { nodeId: "nod_b" }), sampleEvent("nod_b"));
      assert.equal(anew.kind === "joined" && anew.node.id, "nod_b");
    });
  });
}
