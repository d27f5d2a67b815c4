import assert from "node:assert/strict";
import { after, before, suite, test } from "node:test";
import { RawSandbox, UpgradeRefusedError } from "./support/raw-sandbox.ts";
import { TestServer } from "./support/server.ts";

/** What one organization can take from the others. */
suite("organizations on one server", { timeout: 300_000 }, () => {
  let server: TestServer;

  before(async () => {
    server = await TestServer.start({ settings: "[sandboxes]\nmax = 4\nkept_places = 2\n" });
  });
  after(() => server?.[Symbol.asyncDispose]());

  const organization = async (slug: string): Promise<string> => {
    const made = await server.request("/api/v1/organizations", { method: "POST", json: { slug } });
    assert.equal(made.status, 200);
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
    assert.match(full.message, /^All 4 places/);
    await server.request(`/api/v3/sandbox/${alone[0]?.id}`, { method: "DELETE" });
    await create(b);
    assert.doesNotMatch(server.logText(), /INTERNAL_ERROR|"level":50/, "a full house is no fault of the server");
    assert.equal(await first.run("echo alive"), "alive");
  });
});
