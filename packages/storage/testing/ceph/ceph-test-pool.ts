import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { assertNoLeaks, testTimeoutMs } from "@caisson/linux/testing";
import { CephStorage, type CephStorageOptions } from "../../src/ceph/ceph-storage.ts";
import { RbdClient } from "../../src/ceph/rbd-client.ts";
import { type ImageRow, Register } from "../../src/ceph/register.ts";
import { crashCommand } from "../crash-command.ts";
import { MIB } from "../device-io.ts";
import type { TestPool } from "../test-pool.ts";
import { TestCeph } from "./test-ceph.ts";

/** A pool of a cluster of the test's own. */
export async function makeCephTestPool(): Promise<TestPool> {
  await using made = new AsyncDisposableStack();
  const ceph = made.adopt(await TestCeph.start(), (it) => it.stop());
  const options = made.adopt(await hostOptions(ceph), disposeHost);
  const observer = made.adopt(await openObserver(options), (it) => it.close());
  const resources = made.move();
  return {
    open: () => CephStorage.open(options),
    findDebris: () => findCephDebris(observer),
    crashCommand: crashCommand({ kind: "ceph", options }),
    cutPower: null,
    async dispose() {
      await using _ended = resources;
      // Nothing is kept for clones when there are none.
      const remains = [await observer.rows(""), await observer.images(), await observer.trash()];
      assert.deepEqual(remains, [{}, [], []]);
    },
  };
}

/** A connection that only looks. */
export function openObserver(options: CephStorageOptions): Promise<RbdClient> {
  return RbdClient.open({ answerTimeoutMs: testTimeoutMs(120_000), ...options });
}

/** As a host of its own opens the cluster's pool. */
export async function hostOptions({ conf, user, pool }: TestCeph): Promise<CephStorageOptions> {
  const directory = await mkdtemp(join(tmpdir(), "caisson-ceph-host-"));
  // Only a test of a cluster that does not answer sets shorter ones.
  const [answerTimeoutMs, connectTimeoutMs] = [testTimeoutMs(120_000), testTimeoutMs(60_000)];
  return { conf, user, pool, directory, headroomBytes: 64 * MIB, answerTimeoutMs, connectTimeoutMs };
}

export async function disposeHost({ directory }: CephStorageOptions): Promise<void> {
  await rm(directory, { recursive: true });
  await assertNoLeaks({ directory });
}

/** Intents that are not finished, and block images that no row, and no clone of them, needs. */
export async function findCephDebris(observer: RbdClient): Promise<readonly string[]> {
  const rows = [...(await new Register(() => Promise.resolve(observer)).list("image"))];
  const used = new Set(rows.map(([, { row }]) => row.image));
  const isIntent = ({ state }: ImageRow): boolean => state === "making" || state === "deleting";
  const intents = rows.flatMap(([id, { row }]) => (isIntent(row) ? [`${id}: ${row.state}`] : []));
  const images = (await observer.images()).filter((image) => !used.has(image)).map((image) => `image ${image}`);
  const trash: string[] = [];
  for (const { id, name } of await observer.trash()) {
    const info = await observer.info(name, id);
    if (info?.snapshots.every(({ childCount }) => childCount === 0)) trash.push(`trash ${name}`);
  }
  return [...intents, ...images, ...trash];
}
