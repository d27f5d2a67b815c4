import assert from "node:assert/strict";
import { test } from "node:test";
import type { SnapshotStore } from "@caisson/snapshot-store";
import type { AppContext } from "../context.ts";
import { backUpWhenDue } from "./backup-schedule.ts";
import { BackupWatch } from "./backup-watch.ts";

const DAY_MS = 24 * 3_600_000;

test("forgetting that failed is tried again with the next look, not with the next backup", async () => {
  const { signal } = new AbortController();
  const at = (id: string, ageMs: number) => ({ id, atMs: Date.now() - ageMs, isAutomatic: true });
  let left = [at("newest", 0), at("of long ago", 40 * DAY_MS)];
  let isAway = true;
  let listCount = 0;
  const backups = {
    async list() {
      listCount += 1;
      return left;
    },
    async delete(id: string) {
      if (isAway) throw new Error("away");
      left = left.filter((backup) => backup.id !== id);
    },
  };
  const config = { snapshotStore: { backupEveryMs: 900_000, backupKeepMs: 30 * DAY_MS } };
  const app = { config, backups: new BackupWatch("/nowhere") } as unknown as AppContext;
  const look = () => backUpWhenDue(app, { backups } as unknown as SnapshotStore, signal);
  await assert.rejects(look(), /away/);
  isAway = false;
  await look();
  assert.deepEqual(
    left.map(({ id }) => id),
    ["newest"],
  );
  const before = listCount;
  await look();
  assert.equal(listCount, before, "then nothing is left to forget until there is another backup");
});
