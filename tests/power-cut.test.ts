import assert from "node:assert/strict";
import { copyFile, mkdir, mkdtemp, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { after, before, suite, test } from "node:test";
import { openSqliteStore } from "@caisson/database";
import { runTool } from "@caisson/linux";
import { requireIsolation } from "@caisson/linux/testing";

const DISK_BYTES = 64 * 2 ** 20;
const ROUNDS = 20;

/** What a disk holds at a moment is what a cut of power leaves: here it is a file, with a file system whose cache it does not have. */
suite("a cut of power", () => {
  let place: string;
  let disk: string;
  let mounted: string;

  before(async () => {
    await requireIsolation();
    place = await mkdtemp(join(tmpdir(), "caisson-power-cut-"));
    disk = join(place, "disk");
    mounted = await mkdtemp(join(place, "mounted-"));
    await writeFile(disk, "");
    await truncate(disk, DISK_BYTES);
    await runTool("mkfs.ext4", ["-q", "-F", disk]);
    await runTool("mount", ["-o", "loop", disk, mounted]);
  });
  after(async () => {
    await runTool("umount", [mounted]);
    await rm(place, { recursive: true });
  });

  /** What `read` finds on the disk as it is now, after a start. */
  async function afterCut<T>(read: (directory: string) => Promise<T>): Promise<T> {
    const copy = join(place, "copy");
    const directory = join(place, "after");
    await copyFile(disk, copy);
    await mkdir(directory);
    await runTool("mount", ["-o", "loop", copy, directory]);
    try {
      return await read(directory);
    } finally {
      await runTool("umount", [directory]);
      await rm(directory, { recursive: true });
      await rm(copy);
    }
  }

  test("takes nothing back that the embedded database has answered, alone or with others at the same time", async () => {
    // The log is moved into the database meanwhile, time and again.
    const store = openSqliteStore(join(mounted, "store.db"), { commitsPerMove: 3 });
    try {
      const answered: string[] = [];
      for (let round = 0; round < ROUNDS; round += 1) {
        const ids = Array.from({ length: round % 4 === 0 ? 10 : 1 }, (_, index) => `org_${round}_${index}`);
        await Promise.all(
          ids.map((id) =>
            store.organizations.create(
              { id, slug: id.replaceAll("_", "-"), createdAtMs: Date.now() },
              {
                ...{ organizationId: id, atMs: Date.now(), actor: "server", verb: "organization-create" },
                ...{ objectId: id, outcome: "ok", detail: {} },
              },
            ),
          ),
        );
        answered.push(...ids);
        const found = await afterCut(async (directory) => {
          const copy = openSqliteStore(join(directory, "store.db"));
          try {
            return (await copy.organizations.list()).map(({ id }) => id);
          } finally {
            await copy.close();
          }
        });
        assert.deepEqual(new Set(found), new Set(answered), `after round ${round}`);
      }
    } finally {
      await store.close();
    }
  });

  test("does take back what was only committed, so that this test can tell", async () => {
    const database = new DatabaseSync(join(mounted, "plain.db"));
    try {
      database.exec("PRAGMA journal_mode = WAL; CREATE TABLE rows (id INTEGER)");
      database.exec("PRAGMA synchronous = NORMAL; INSERT INTO rows VALUES (1)");
      const count = await afterCut(async (directory) => {
        const copy = new DatabaseSync(join(directory, "plain.db"));
        try {
          return copy.prepare("SELECT count(*) AS count FROM rows").get()?.count;
        } finally {
          copy.close();
        }
      });
      assert.equal(count, 0);
    } finally {
      database.close();
    }
  });
});
