import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import { PostgresServer } from "@caisson/database/testing";
import { testTimeoutMs } from "@caisson/linux/testing";
import { installationFileOf, openStore } from "./open-store.ts";

suite("a server without disks of its own", { timeout: testTimeoutMs(120_000) }, () => {
  let postgres: PostgresServer;
  let parent: string;
  before(async () => {
    postgres = await PostgresServer.start();
    parent = await mkdtemp(join(tmpdir(), "caisson-open-store-"));
  });
  after(async () => {
    await postgres[Symbol.asyncDispose]();
    await rm(parent, { recursive: true });
  });

  test("is of the database's installation when its directory is new, and never stands by for another one's", async () => {
    const databaseUrl = await postgres.createDatabase();
    const standBy = { onLeader: async () => {}, onProblem: assert.fail };
    const hooks = { onDisplaced: assert.fail, onLogProblem: assert.fail, standBy };
    const place = async (name: string) => {
      const dataDirectory = join(parent, name);
      await mkdir(join(dataDirectory, "database"), { recursive: true });
      return { dataDirectory, databaseUrl };
    };
    const [one, two, other] = [await place("one"), await place("two"), await place("other")];
    const first = await openStore(one, hooks);
    await installationFileOf(other.dataDirectory).commit({ id: "other", rows: "sqlite" });
    await assert.rejects(openStore(other, hooks), {
      code: "INVALID_CONFIG",
      message:
        /belongs to the installation of .*\/one\), and .*\/other is of another one: correct the setting "database"/,
    });
    const second = openStore(two, hooks);
    await first.close();
    await (await second).close();
    const idOf = async ({ dataDirectory }: typeof one) => (await installationFileOf(dataDirectory).read())?.id;
    assert.equal(await idOf(two), await idOf(one));
  });
});
