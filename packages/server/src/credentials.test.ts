import assert from "node:assert/strict";
import { mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, suite, test } from "node:test";
import { openSqliteStore, type Store } from "@caisson/database";
import { hashToken } from "./app/access/token-hash.ts";
import { ensureCredentials } from "./credentials.ts";

const ENDPOINT = "http://127.0.0.1:8484";

suite("credentials", () => {
  let directory: string;
  let path: string;
  let store: Store;
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), "caisson-credentials-"));
    path = join(directory, "credentials.json");
    store = openSqliteStore(join(directory, "caisson.db"));
  });
  afterEach(async () => {
    await store.close();
    await rm(directory, { recursive: true });
  });

  const ensure = (on: Store = store) => ensureCredentials(on, directory, ENDPOINT);
  /** The server ends right before or right after its token is made. */
  const cutOff = (moment: "before" | "after"): Store => ({
    ...store,
    organizations: {
      ...store.organizations,
      async createToken(...token) {
        if (moment === "after") await store.organizations.createToken(...token);
        throw new Error("cut off");
      },
    },
  });
  const liveTokens = async (): Promise<number> => {
    const [organization] = await store.organizations.list();
    return (await store.organizations.listTokens(organization?.id ?? "")).length;
  };

  test("are made at the first start, for the server's user only, and kept by the next ones", async () => {
    const first = await ensure();
    assert.deepEqual(await ensure(), first);
    assert.deepEqual(JSON.parse(await readFile(path, "utf8")), first);
    assert.equal((await stat(path)).mode & 0o777, 0o600);
    assert.equal(await liveTokens(), 1);
  });

  for (const moment of ["before", "after"] as const) {
    test(`of a start that was cut off ${moment} its token was made are finished by the next, with one token in all`, async () => {
      await assert.rejects(ensure(cutOff(moment)), /cut off/);
      const { token } = await ensure();
      assert.notEqual(await store.organizations.findToken(hashToken(token)), null);
      assert.equal(await liveTokens(), 1);
    });
  }

  test("that are cut off are refused with the file's name, also when they are whole JSON", async () => {
    for (const text of ['{"organization": "ma', "{}", "null"]) {
      await writeFile(path, text);
      await assert.rejects(
        ensure(),
        (error: Error & { code?: string }) => error.code === "INVALID_CONFIG" && error.message.includes(path),
        text,
      );
      assert.equal(await liveTokens(), 0, text);
    }
  });

  test("of which only the intent is cut off are made anew", async () => {
    await writeFile(`${path}.new`, '{"tok');
    const { token } = await ensure();
    assert.notEqual(await store.organizations.findToken(hashToken(token)), null);
  });
});
