import assert from "node:assert/strict";
import { mkdtemp, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, suite, test } from "node:test";
import { openSqliteStore, type Store } from "@caisson/database";
import { hashToken } from "./app/access/token-hash.ts";
import { CredentialsFile } from "./credentials.ts";

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

  const ensure = async (on: Store = store) => (await new CredentialsFile(on, directory).ensure(ENDPOINT)).credentials;
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

  test("whose token was revoked, by whatever way they got there, get a new one, and it is said", async () => {
    for (const isIntentLeft of [false, true]) {
      const { token } = await ensure();
      const found = await store.organizations.findToken(hashToken(token));
      const event = { organizationId: "", atMs: 0, actor: "", verb: "", objectId: "", outcome: "", detail: {} };
      const { id = "", organizationId = "" } = found?.token ?? {};
      await store.organizations.revokeToken(organizationId, id, 1, { ...event, organizationId });
      // Left by a crash before the revocation; the file itself was removed since.
      if (isIntentLeft) await rename(path, `${path}.new`);
      const { credentials, isTokenReplaced } = await new CredentialsFile(store, directory).ensure(ENDPOINT);
      assert.notEqual(credentials.token, token);
      assert.equal(isTokenReplaced, !isIntentLeft);
      assert.notEqual(await store.organizations.findToken(hashToken(credentials.token)), null);
    }
  });

  test("hold the new token of a rotation whenever it was cut off after its commit, and the old one before", async () => {
    const { token: before } = await ensure();
    const found = await store.organizations.findToken(hashToken(before));
    assert.ok(found !== null);
    const file = new CredentialsFile(store, directory);
    const failing = file.replaceToken(found.token.id, "ddo_never", () => Promise.reject(new Error("cut off")));
    await assert.rejects(failing, /cut off/);
    assert.equal((await ensure()).token, before);

    const event = { organizationId: "org", atMs: 0, actor: "", verb: "", objectId: "", outcome: "", detail: {} };
    const rotated = { ...found.token, id: "tok_new" };
    const commit = async () => {
      const { organizationId } = rotated;
      await store.organizations.rotateToken(found.token.id, rotated, hashToken("ddo_new"), {
        ...event,
        organizationId,
      });
      throw new Error("cut off");
    };
    await assert.rejects(file.replaceToken(found.token.id, "ddo_new", commit), /cut off/);
    assert.equal((await ensure()).token, "ddo_new");
  });
});
