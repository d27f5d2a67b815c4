import assert from "node:assert/strict";
import { after, before, suite, test } from "node:test";
import { RawSandbox } from "./support/raw-sandbox.ts";
import { TestServer } from "./support/server.ts";

/** A network that no host of the tests uses, with room for two blocks. */
const NETWORK = "10.199.86.0/23";
const settings = `[network]\nsubnet = "${NETWORK}"\n[sandboxes]\nmax = 300\nwarm_sandboxes = 0\n`;

suite("places for sandboxes", () => {
  let server: TestServer;
  before(async () => {
    server = await TestServer.start({ settings });
  });
  after(() => server[Symbol.asyncDispose]());

  test("are as many as the settings ask for, in the network that they name", async () => {
    assert.match(await (await server.request("/metrics")).text(), /^caisson_sandbox_places 300$/m);
    await using sandbox = await RawSandbox.create(server, { memory_mb: 768 });
    assert.match(await sandbox.run("hostname -I"), /^10\.199\.8[67]\.\d+ *$/);
  });

  test("belong to one server of a host: another one with the same network does not start, and is told what to do", async () => {
    await assert.rejects(TestServer.start({ settings }), /other servers on this host have all of network\.subnet/);
  });
});
