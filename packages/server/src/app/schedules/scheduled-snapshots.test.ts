import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { CaissonError } from "@caisson/model";
import { FarStore, farDisk } from "../../../testing/far-store.ts";
import type { Disk } from "../records.ts";
import { takeScheduled } from "./scheduled-snapshots.ts";

const LOCAL = ["vol_ord_00000000000000000000", "vol_ord_11111111111111111111", "vol_ord_22222222222222222222"] as const;
const REPLICATED = [
  "vol_ord_o0000000000000000000",
  "vol_ord_o1111111111111111111",
  "vol_ord_o2222222222222222222",
] as const;

/** Of these volumes, all of which are due; `get` is the first thing that is asked of one. Resolves to the volumes that it was asked of, and to what was recorded. */
async function takeAll(ids: readonly string[], get: (id: string) => Promise<Disk | null>) {
  const asked: string[] = [];
  const failures = new Map<string, { readonly error: string; readonly retryAtMs: number }>();
  using far = new FarStore(
    {},
    {
      listScheduled: async () => ids.map((id) => farDisk(id, "ready")),
      get(id) {
        asked.push(id);
        return get(id);
      },
      failScheduled: async (id, error, retryAtMs) => void failures.set(id, { error, retryAtMs }),
    },
  );
  await takeScheduled(far.app, far.connected, new AbortController().signal);
  return { asked, failures };
}

suite("snapshots of schedules", { timeout: 60_000 }, () => {
  test("local volumes do not wait for a replicated pool that does not answer, which is asked for one volume only", async () => {
    const startedAtMs = Date.now();
    const localsAreDone = Promise.withResolvers<null>();
    const { asked, failures } = await takeAll([...REPLICATED, ...LOCAL], async (id) => {
      if (id === LOCAL[2]) localsAreDone.resolve(null);
      if (id !== REPLICATED[0]) return null;
      await localsAreDone.promise;
      throw new CaissonError("DISK_UNAVAILABLE", "Cannot seal image vol_ord_o0: the cluster does not answer");
    });
    assert.deepEqual(asked.toSorted(), [...LOCAL, REPLICATED[0]].toSorted());
    assert.deepEqual([...failures.keys()], [...REPLICATED], "none of them takes a place in the next batch");
    assert.match(failures.get(REPLICATED[0])?.error ?? "", /the cluster does not answer/);
    for (const id of REPLICATED.slice(1))
      assert.match(failures.get(id)?.error ?? "", /^It could not be made, because the replicated pool/);
    for (const { retryAtMs } of failures.values()) assert.ok(retryAtMs > startedAtMs);
  });

  test("what fails for one volume, or for one disk of the local pool, keeps the others from nothing", async () => {
    const { asked, failures } = await takeAll([...LOCAL, ...REPLICATED], async (id) => {
      if (id === LOCAL[0]) throw new CaissonError("DISK_UNAVAILABLE", "its disk is not mounted");
      if (id === REPLICATED[0]) throw new Error("ENOENT: /pool");
      return null;
    });
    assert.deepEqual(asked.toSorted(), [...LOCAL, ...REPLICATED].toSorted());
    assert.equal(failures.get(LOCAL[0])?.error, "its disk is not mounted");
    assert.equal(failures.get(REPLICATED[0])?.error, "It could not be made: the server's log says why");
    assert.equal(failures.size, 2);
  });
});
