import type { AuditEvent, NewDisk, Owner, Store } from "@caisson/database";
import { sampleDisk, sampleNode, sampleSandbox } from "@caisson/database/testing";

/** Prepares a call, of a round, and returns it; only the call itself is measured. */
export type StoreCall = (round: number) => Promise<() => Promise<unknown>>;

/** Nodes of a region of their own, for the choice among many. */
export const MANY_NODES = 500;
export const MANY_NODES_REGION = "many";

const PLACES = { perOrganization: 1e6, kept: 0, keptEach: 1 };
const USAGE = {
  allocatedBytes: 1,
  flattenedBytes: 1,
  exclusiveBytes: 1,
  inodes: 1,
  usedInodes: 1,
  usageMeasuredAtMs: Date.now(),
};

/** Every call of a store that has `count` volumes of the organization `org` on the owner's node, named build-cache-1 and so on. */
export function storeCalls(store: Store, count: number, owner: Owner): Readonly<Record<string, StoreCall>> {
  /** The next run of the node: what a start reads. */
  const later = { ...owner, generation: owner.generation + 1 };
  const { nodes, joining, disks, sandboxes, organizations, events } = store;
  const run = `${Date.now().toString(36)}`;
  let made = 0;

  const event = (objectId: string): AuditEvent => ({
    organizationId: "org",
    atMs: Date.now(),
    actor: "tok_1",
    verb: "bench",
    objectId,
    outcome: "ok",
    detail: {},
  });
  const newDisk = (): NewDisk => {
    made += 1;
    return sampleDisk({
      id: `vol_ord_${run}${made}`,
      owner,
      organizationId: "org",
      slug: `made-${run}-${made}`,
      labels: { made: "here" },
      createdAtMs: Date.now(),
    });
  };
  const reserved = async (): Promise<string> => {
    const disk = newDisk();
    await disks.reserve(disk);
    return disk.id;
  };
  const ready = async (): Promise<string> => {
    const id = await reserved();
    await disks.commit(id, { consistency: null, ...USAGE }, event(id));
    return id;
  };
  const deleted = async (): Promise<string> => {
    const id = await ready();
    await disks.delete(id, 1, Number.MAX_SAFE_INTEGER, event(id));
    return id;
  };
  const purging = async (): Promise<string> => {
    const id = await deleted();
    await disks.beginPurgeOf(owner, id);
    return id;
  };
  const newSandbox = () => {
    made += 1;
    return sampleSandbox({ id: `sbx_ord_${run}${made}`, organizationId: "org", createdAtMs: Date.now() });
  };
  const starting = async (): Promise<string> => {
    const sandbox = newSandbox();
    await sandboxes.reserve(sandbox, [{ volumeId: await ready(), isReadOnly: false }], PLACES);
    return sandbox.id;
  };
  const list =
    (query: object): StoreCall =>
    async () =>
    () =>
      disks.list({ organizationId: "org", kind: "volume", isDeleted: false, limit: 31, ...query });
  /** A call that needs nothing of its own. */
  const plain =
    (call: () => Promise<unknown>): StoreCall =>
    async () =>
      call;
  /** A call on something that was just made for it. */
  const on =
    (make: () => Promise<string>, call: (id: string) => Promise<unknown>): StoreCall =>
    async () => {
      const id = await make();
      return () => call(id);
    };
  const hash = Buffer.alloc(32, 9);

  return {
    "disks.find by slug": plain(() => disks.find("org", "volume", `build-cache-${count / 2}`)),
    "disks.find by id": plain(() => disks.find("org", "volume", `vol_ord_${count / 2}`)),
    "disks.get": plain(() => disks.get(`vol_ord_${count / 2}`)),
    "disks.list, newest page": list({}),
    "disks.list, page in the middle": list({ beforeSequence: count / 2 }),
    "disks.list, every slug matches": list({ search: "cache" }),
    "disks.list, one slug matches": list({ search: `cache-${count - 1}` }),
    "disks.list, a hundredth matches, none new": list({ search: "cache-11" }),
    "disks.list, a ninth matches, none new": list({ search: "cache-1" }),
    "disks.list, parts of every slug, none matches": list({ search: "cache-build" }),
    "disks.list, none matches": list({ search: "zebra" }),
    "disks.list, two letters, many match": list({ search: "ca" }),
    "disks.list, two letters, none matches": list({ search: "zz" }),
    "disks.list, one letter, none matches": list({ search: "z" }),
    "disks.list, label of every thousandth": list({ labels: { shard: "7" } }),
    "disks.list, label of none": list({ labels: { shard: "8" } }),
    "disks.list, other organization, term": list({ organizationId: "small", search: "zebra" }),
    "disks.list, other organization, label": list({ organizationId: "small", labels: { shard: "7" } }),
    "disks.list, deleted": list({ isDeleted: true }),
    "disks.descendants": plain(() => disks.descendants("org", `vol_ord_${count / 2}`, 100)),
    "disks.reserve": async () => {
      const disk = newDisk();
      return () => disks.reserve(disk);
    },
    "disks.reserve anywhere": async () => {
      const disk = { ...newDisk(), owner: null };
      return () => disks.reserve(disk);
    },
    "disks.reserve with a key": async () => {
      const disk = newDisk();
      return () => disks.reserve(disk, { key: disk.id, requestHash: hash });
    },
    "disks.commit": on(reserved, (id) => disks.commit(id, { consistency: null, ...USAGE }, event(id))),
    "disks.withdraw": on(reserved, (id) => disks.withdraw(id)),
    "disks.delete": on(ready, (id) => disks.delete(id, 1, Number.MAX_SAFE_INTEGER, event(id))),
    "disks.restore": on(deleted, (id) => disks.restore(id, `again-${id.slice(8).toLowerCase()}`, event(id))),
    "disks.setLabels": on(ready, (id) => disks.setLabels(id, { made: "there" }, event(id))),
    "disks.setUsage": on(ready, (id) => disks.setUsage(id, { ...USAGE, usageMeasuredAtMs: Date.now() + 1 })),
    "disks.recordError": on(ready, (id) => disks.recordError(id, { message: "lost", atMs: 1 }, event(id))),
    "disks.acknowledgeError": on(
      async () => {
        const id = await ready();
        await disks.recordError(id, { message: "lost", atMs: 1 }, event(id));
        return id;
      },
      (id) => disks.acknowledgeError(id, event(id)),
    ),
    "disks.beginGrow": on(ready, (id) => disks.beginGrow(owner, id, 2e9)),
    "disks.finishGrow": on(ready, (id) => disks.finishGrow(id, USAGE, event(id))),
    "disks.cancelGrow": on(ready, (id) => disks.cancelGrow(id)),
    "disks.beginPurgeOf": on(deleted, (id) => disks.beginPurgeOf(owner, id)),
    "disks.forget": on(purging, (id) => disks.forget(id, event(id))),
    "disks.beginPurge, nothing due": plain(() => disks.beginPurge(owner, 0)),
    "disks.listDeleted": plain(() => disks.listDeleted(owner.nodeId, "ord", Date.now(), { limit: 100, after: null })),
    "disks.listUnmeasured": plain(() => disks.listUnmeasured(owner.nodeId, ["ord"], count, 500)),
    "disks.listUnsettled": plain(() => disks.listUnsettled(later)),
    "disks.sumUsage": plain(() => disks.sumUsage(owner.nodeId, "ord")),
    "disks.totals": plain(() => disks.totals()),
    "disks.listIds (a start of the server)": plain(() => disks.listIds(owner.nodeId)),
    "disks.expireIdempotencyKeys": plain(() => disks.expireIdempotencyKeys(0)),
    "nodes.renew": plain(() => nodes.renew(owner, 3_600_000, { ord: 1e12 })),
    "nodes.begin, of the run that began last": async () => {
      const node = sampleNode({ id: "nod_bench", regions: ["elsewhere"] });
      await nodes.begin(node, 3_600_000);
      return () => nodes.begin(node, 3_600_000);
    },
    "nodes.list": plain(() => nodes.list()),
    "joining.join": async () => {
      made += 1;
      const [token, nodeId] = [Buffer.from(`${run}${made}`), `nod_${run}${made}`];
      await joining.createToken({ id: `jtk_${run}${made}`, region: "elsewhere" }, token, 60_000, event("jtk"));
      return () => joining.join(token, { nodeId, keyFingerprint: "SHA256:x", address: "127.0.0.1:1" }, event(nodeId));
    },
    "sandboxes.reserve with a volume": async () => {
      const [sandbox, volumeId] = [newSandbox(), await ready()];
      return () => sandboxes.reserve(sandbox, [{ volumeId, isReadOnly: false }], PLACES);
    },
    "sandboxes.reserve without disks": async () => {
      const sandbox = newSandbox();
      return () => sandboxes.reserve(sandbox, [], PLACES);
    },
    [`sandboxes.reserve on one of ${MANY_NODES} nodes`]: async () => {
      const sandbox = { ...newSandbox(), region: MANY_NODES_REGION };
      return () => sandboxes.reserve(sandbox, [], PLACES);
    },
    "sandboxes.commit": on(starting, (id) => sandboxes.commit(id, event(id))),
    "sandboxes.setStopAt": on(starting, (id) => sandboxes.setStopAt(id, Date.now())),
    "sandboxes.setKeepUntil": on(starting, (id) => sandboxes.setKeepUntil(id, Date.now())),
    "sandboxes.beginEnd": on(starting, (id) => sandboxes.beginEnd(id, "killed")),
    "sandboxes.finish": on(starting, (id) => sandboxes.finish(id, "killed", Date.now(), event(id))),
    "sandboxes.get": plain(() => sandboxes.get("org", `sbx_ord_${count / 2}`)),
    "sandboxes.list": plain(() => sandboxes.list("org", 100)),
    "sandboxes.listLeft": plain(() => sandboxes.listLeft(later)),
    "sandboxes.listRunning": plain(() => sandboxes.listRunning(owner)),
    "sandboxes.holds": plain(() => sandboxes.holds(`sbx_ord_${count / 2}`)),
    "sandboxes.holders": plain(() => sandboxes.holders(`vol_ord_${count / 2}`)),
    "sandboxes.writers of 31": plain(() =>
      sandboxes.writers(Array.from({ length: 31 }, (_, index) => `vol_ord_${count / 2 + index}`)),
    ),
    "sandboxes.expire, nothing due": plain(() => sandboxes.expire(0)),
    "organizations.get": plain(() => organizations.get("org")),
    "organizations.list": plain(() => organizations.list()),
    "organizations.findToken": plain(() => organizations.findToken(hash)),
    "events.record": plain(() => events.record(event("vol_ord_1"))),
    "events.list": plain(() => events.list("org", null, 100)),
    "events.list of an object": plain(() => events.list("org", `vol_ord_${count / 2}`, 100)),
    "events.expire, nothing due": plain(() => events.expire(0)),
  };
}
