import assert from "node:assert/strict";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, suite, test } from "node:test";
import { setImmediate } from "node:timers/promises";
import { openSqliteStore } from "../src/sqlite/sqlite-store.ts";
import type { Disk, Store } from "../src/store.ts";
import type { StoreHarness } from "./conformance.ts";
import {
  SAMPLE_ORGANIZATION,
  sampleDisk,
  sampleEvent,
  sampleNode,
  samplePlaces,
  sampleSandbox,
  sampleUsage,
} from "./samples.ts";

/** What the database seam promises of backups. */
export function backupConformance(name: string, open: () => Promise<StoreHarness>): void {
  suite(`store, backups: ${name}`, () => {
    let harness: StoreHarness;
    let store: Store;
    let directory: string;
    const organizationId = SAMPLE_ORGANIZATION;
    const make = async (slug: string): Promise<Disk> => {
      const disk = sampleDisk({ organizationId, slug, labels: { team: "é" }, isBootable: true });
      await store.disks.reserve(disk);
      return store.disks.commit(disk.id, { consistency: null, ...sampleUsage() }, sampleEvent(disk.id));
    };

    beforeEach(async () => {
      directory = await mkdtemp(join(tmpdir(), "caisson-backup-"));
      harness = await open();
      store = harness.store;
      const organization = { id: organizationId, slug: "a", createdAtMs: 1 };
      await store.organizations.create(organization, sampleEvent(organizationId));
      await store.nodes.begin(sampleNode(), 60_000);
    });
    afterEach(async () => {
      await harness.dispose();
      await rm(directory, { recursive: true });
    });

    test("a backup has every row, as of one moment, and a store that is opened on it goes on", async () => {
      const token = { id: "tok_1", organizationId, name: "ci", createdAtMs: 2 };
      await store.organizations.createToken(token, Buffer.from([0, 255, 1]), sampleEvent("tok_1"));
      const volume = await make("cache");
      const sandbox = sampleSandbox();
      await store.sandboxes.reserve(sandbox, [{ volumeId: volume.id, isReadOnly: false }], samplePlaces());
      await store.sandboxes.commit(sandbox.id, sampleEvent(sandbox.id));
      const gone = await make("gone");
      await store.disks.delete(gone.id, 5, 6, sampleEvent(gone.id));
      const path = join(directory, "backup.db");
      await store.backup(path);
      await make("later");
      assert.deepEqual(await readdir(directory), ["backup.db"], "no log beside it");

      const copy = openSqliteStore(path);
      try {
        assert.deepEqual(await copy.organizations.findToken(Buffer.from([0, 255, 1])), {
          token,
          organization: { id: organizationId, slug: "a", createdAtMs: 1 },
        });
        const query = { organizationId, kind: "volume", isDeleted: false, limit: 10 } as const;
        assert.deepEqual(await copy.disks.list(query), [volume]);
        for (const words of [{ search: "cach" }, { labels: { team: "é" } }])
          assert.deepEqual((await copy.disks.list({ ...query, ...words })).length, 1, JSON.stringify(words));
        assert.deepEqual(await copy.disks.get(gone.id), await store.disks.get(gone.id));
        assert.deepEqual(await copy.sandboxes.get(organizationId, sandbox.id), {
          ...(await store.sandboxes.get(organizationId, sandbox.id)),
        });
        assert.deepEqual(await copy.sandboxes.holders(volume.id), [{ sandboxId: sandbox.id, isReadOnly: false }]);
        assert.deepEqual(await copy.nodes.list(), await store.nodes.list());
        assert.deepEqual(
          (await copy.disks.totals()).find(({ state }) => state === "ready"),
          { ...(await store.disks.totals()).find(({ state }) => state === "ready"), count: 1, exclusiveBytes: 3 },
        );
        const events = await store.events.list(organizationId, null, 100);
        assert.deepEqual(await copy.events.list(organizationId, null, 100), events.slice(1));
        const made = sampleDisk({ organizationId, slug: "next" });
        await copy.disks.reserve(made);
        assert.equal((await copy.disks.get(made.id))?.sequence, gone.sequence + 1);
      } finally {
        await copy.close();
      }
    });

    test("a backup of an empty store can be opened, and a store that is written to is copied whole", async () => {
      const first = join(directory, "first.db");
      await store.backup(first);
      const copy = openSqliteStore(first);
      assert.equal((await copy.organizations.list()).length, 1);
      await copy.close();

      let isOver = false;
      const writing = (async () => {
        // A store that answers at once leaves others no turn by itself.
        for (let index = 0; !isOver; index += 1, await setImmediate()) await make(`volume-${index}`);
      })();
      try {
        for (const attempt of ["one", "two"]) await store.backup(join(directory, `${attempt}.db`));
      } finally {
        isOver = true;
        await writing;
      }
      const second = openSqliteStore(join(directory, "two.db"));
      try {
        // Each volume and its line of the trail are one transaction: a backup has both or neither.
        const query = { organizationId, kind: "volume", isDeleted: false, limit: 100_000 } as const;
        const disks = new Set((await second.disks.list(query)).map(({ id }) => id));
        const events = await second.events.list(organizationId, null, 100_000);
        const told = new Set(events.map(({ objectId }) => objectId).filter((id) => id.startsWith("vol_")));
        assert.deepEqual(told, disks);
      } finally {
        await second.close();
      }
    });
  });
}
