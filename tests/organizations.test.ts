import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import { testTimeoutMs } from "@caisson/linux/testing";
import { eventually, within } from "./support/eventually.ts";
import { killSandbox } from "./support/kill-sandbox.ts";
import { RawSandbox, UpgradeRefusedError } from "./support/raw-sandbox.ts";
import { TestServer } from "./support/server.ts";

/** What one organization can take from the others. */
suite("organizations on one server", { timeout: testTimeoutMs(300_000) }, () => {
  let server: TestServer;

  before(async () => {
    server = await TestServer.start({ settings: "[sandboxes]\nmax = 4\nkept_places = 2\n" });
  });
  after(() => server?.[Symbol.asyncDispose]());

  const organization = async (slug: string): Promise<string> => {
    const made = await server.request("/api/v1/organizations", { method: "POST", json: { slug } });
    assert.ok([200, 409].includes(made.status));
    const answer = await server.request("/api/v1/tokens", { method: "POST", json: { name: "a", organization: slug } });
    return ((await answer.json()) as { token: string }).token;
  };
  const create = (token: string) =>
    RawSandbox.create({ endpoint: server.endpoint, token }, { memory_mb: 768, timeout: "5m" });
  const refused = async (token: string): Promise<UpgradeRefusedError> => {
    try {
      await create(token);
    } catch (error) {
      if (error instanceof UpgradeRefusedError) return error;
      throw error;
    }
    throw new Error("It was created");
  };

  test("get a place although another one takes all that it can, and a full server says when to try again", async () => {
    const alone = await Promise.all([1, 2, 3].map(() => create(server.token)));
    const [a, b] = [await organization("first-team"), await organization("second-team")];
    // Taken while there was nobody to keep a place for.
    const kept = await refused(server.token);
    assert.deepEqual([kept.status, kept.code, kept.retryAfter], [503, "SERVER_FULL", "5"]);
    assert.match(kept.message, /last 2 of the 4 places.*fewer than 2/);
    const first = await create(a);
    const full = await refused(b);
    assert.deepEqual([full.status, full.code, full.retryAfter], [503, "SERVER_FULL", "5"]);
    assert.match(full.message, /^All 4 places .*\(sandboxes\.max\)/);
    await killSandbox(server, alone[0]?.id ?? "");
    const last = await create(b);
    assert.doesNotMatch(server.logText(), /INTERNAL_ERROR|"level":50/, "a full house is no fault of the server");
    assert.equal(await first.run("echo alive"), "alive");
    const end = (id: string | undefined, token: string) =>
      server.request(`/api/v3/sandbox/${id}`, { method: "DELETE", headers: { authorization: `Bearer ${token}` } });
    await Promise.all([...alone.slice(1).map(({ id }) => end(id, server.token)), end(first.id, a), end(last.id, b)]);
  });

  test("revoke and rotate tokens, which ends the connections that were opened with them, and no others", async () => {
    const own = await organization("rotating");
    const call = (token: string, path: string, method: string) =>
      server.request(path, { method, headers: { authorization: `Bearer ${token}` } });
    const other = await create(server.token);
    for (const [path, method] of [
      ["/api/v1/tokens/self/rotate", "POST"],
      ["/api/v1/tokens/TOKEN", "DELETE"],
    ] as const) {
      const token = await organization("rotating");
      const [{ id = "" } = {}] = (await (await call(token, "/api/v1/tokens", "GET")).json()) as { id?: string }[];
      const primary = await RawSandbox.create({ endpoint: server.endpoint, token }, { memory_mb: 768 });
      const answer = await call(token, path.replace("TOKEN", id), method);
      assert.ok(answer.ok, `${answer.status}`);
      assert.equal(await within(10_000, "the end of the connection", primary.closed), 1006);
      assert.equal((await call(token, "/api/v1/tokens", "GET")).status, 401);
      await eventually("the end of the session", async () => {
        const shown = await call(own, `/api/v3/sandbox/${primary.id}`, "GET");
        return ((await shown.json()) as { stopReason: string | null }).stopReason === "primary-left" || null;
      });
      if (method === "POST") {
        const rotated = ((await answer.json()) as { token: string }).token;
        assert.equal((await call(rotated, "/api/v1/tokens", "GET")).status, 200);
      }
    }
    assert.equal(await other.run("echo alive"), "alive");
    await killSandbox(server, other.id);
  });

  test("are not locked out: a rotation is in credentials.json, and a start that finds its token revoked makes another", async () => {
    const rotated = await server.request("/api/v1/tokens/self/rotate", { method: "POST" });
    const { token, id } = (await rotated.json()) as { token: string; id: string };
    const path = join(server.dataDirectory, "credentials.json");
    assert.equal(JSON.parse(await readFile(path, "utf8")).token, token);
    server.token = token;
    assert.equal((await server.request(`/api/v1/tokens/${id}`, { method: "DELETE" })).status, 204);
    await server.stop();
    await server.start();
    assert.match(server.logText(), /token in credentials.json was revoked/);
    assert.notEqual(server.token, token);
    assert.equal((await server.request("/api/v1/tokens")).status, 200);
  });
});
