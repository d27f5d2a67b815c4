import assert from "node:assert/strict";
import { after, before, suite, test } from "node:test";
import { PostgresServer } from "@caisson/database/testing";
import { testTimeoutMs } from "@caisson/linux/testing";
import { Sandbox } from "@deno/sandbox";
import { TestClient } from "./support/client.ts";
import { eventually } from "./support/eventually.ts";
import { freePort } from "./support/free-port.ts";
import { TestNodeProcess } from "./support/node-process.ts";
import { TestServer } from "./support/server.ts";

/** What clients do reaches the one that leads through either of them. */
suite("two servers of one installation", { timeout: testTimeoutMs(900_000) }, () => {
  let postgres: PostgresServer;
  let url: string;
  let one: TestServer;
  let two: TestServer;
  let node: TestNodeProcess;
  const resources = new AsyncDisposableStack();

  const startServer = async (): Promise<TestServer> => {
    const [listen, previews, ssh] = [await freePort(), await freePort(), await freePort()];
    const settings = [
      `database = ${JSON.stringify(url)}`,
      `[expose]\nlisten = "127.0.0.1:${previews}"`,
      `[ssh]\nlisten = "127.0.0.1:${ssh}"\n`,
    ].join("\n");
    return resources.use(await TestServer.start({ role: "control", listen: `127.0.0.1:${listen}`, settings }));
  };
  const clientOf = (server: TestServer, token: string): TestClient => {
    server.token = token;
    Object.assign(process.env, server.clientEnv());
    return new TestClient(server);
  };
  let token = "";

  before(async () => {
    postgres = resources.use(await PostgresServer.start());
    url = await postgres.createDatabase();
    one = await startServer();
    token = one.token;
    node = resources.use(
      await TestNodeProcess.create({ settings: 'regions = ["ord"]\n[sandboxes]\nwarm_sandboxes = 0\n' }),
    );
    const joining = await clientOf(one, token).rest<{ token: string }>("POST", "/api/v1/nodes/tokens", {});
    await node.start(joining.token);
    two = await startServer();
  });
  after(() => resources.disposeAsync());

  test("the one that stands by relays everything to the one that leads", async () => {
    const client = clientOf(two, token);
    await eventually(
      "the node is connected",
      async () => {
        const [shown] = await client.rest<{ connected: boolean; run: string }[]>("GET", "/api/v1/nodes");
        return shown?.connected === true && shown.run !== "" ? shown : null;
      },
      60_000,
    );
    assert.equal((await client.createVolume("kept")).slug, "kept");
    await using sandbox = await Sandbox.create({ volumes: { "/v": "kept" } });
    await sandbox.fs.writeTextFile("/v/file", "through the other one");
    const large = "x".repeat(20_000_000);
    await sandbox.fs.writeTextFile("/v/large", large);
    assert.equal(await sandbox.fs.readTextFile("/v/large"), large);
  });

  test("it takes the place of one that is killed, whose sandboxes go on", async () => {
    const before = await clientOf(one, token).rest<{ hostKey: string }>("GET", "/api/v1/ssh");
    const sandbox = await Sandbox.create({ timeout: "20m", volumes: { "/v": "kept" } });
    await sandbox.fs.writeTextFile("/v/acknowledged", "yes");
    const { id } = sandbox;
    await one.kill();
    const killedMs = performance.now();
    const client = clientOf(two, token);
    // It comes while nobody leads, and waits. A connection that went to the dead one may be reused at the moment of its end.
    const ask = () => two.request("/api/v2/volumes/kept").catch(() => null);
    assert.equal((await eventually("an answer", ask)).status, 200);
    await two.leads();
    console.log(
      `another server answered ${Math.round(performance.now() - killedMs)} ms after the death of the one that led`,
    );
    clientOf(two, token);
    await eventually(
      "the sandbox is taken up",
      async () => {
        const { connected } = (await client.rest<{ connected: boolean }[]>("GET", "/api/v1/nodes"))[0] ?? {};
        return connected === true || null;
      },
      60_000,
    );
    await using again = await Sandbox.connect({ id });
    assert.equal(await again.fs.readTextFile("/v/acknowledged"), "yes");
    assert.equal((await client.rest<{ hostKey: string }>("GET", "/api/v1/ssh")).hostKey, before.hostKey);
    await again.kill();

    await one.start();
    assert.equal((await clientOf(one, token).rest<{ slug: string }>("GET", "/api/v2/volumes/kept")).slug, "kept");
    assert.equal(await one.stop(), 0, "one that stands by ends at a signal");
    await one.start();
  });

  test("it takes the place of one that is frozen, which then ends and has changed nothing", async () => {
    const client = clientOf(two, token);
    const sandbox = await Sandbox.create({ timeout: "20m" });
    const { id } = sandbox;
    two.signal("SIGSTOP");
    const volumes = clientOf(one, token);
    await one.leads();
    clientOf(one, token);
    await volumes.createVolume("since");
    two.signal("SIGCONT");
    // This one came to the frozen one, which may not answer it as if it led.
    const late = await two
      .request("/api/v2/volumes", { method: "POST", json: { slug: "late", region: "ord", capacity: "300MB" } })
      .catch(() => null);
    assert.ok(late === null || late.status === 503, `${late?.status}`);
    await two.exited();
    assert.match(two.logText(), /another one has taken its place/);
    assert.equal((await one.request("/api/v2/volumes/late")).status, 404);
    await eventually(
      "the sandbox is taken up",
      async () => ((await one.request(`/api/v3/sandbox/${id}`)).status === 200 ? true : null),
      60_000,
    );
    Object.assign(process.env, one.clientEnv());
    await using again = await Sandbox.connect({ id });
    assert.equal((await again.sh`echo here`.text()).trim(), "here");
    await again.kill();
    await assert.rejects(client.rest("GET", "/api/v2/volumes/kept"));
  });

  test("a server with a node of its own neither stands by nor is stood by for", async () => {
    const settings = `database = ${JSON.stringify(url)}\n`;
    await assert.rejects(TestServer.start({ settings }), /Another server uses the database/);
    const own = `database = ${JSON.stringify(await postgres.createDatabase())}\n`;
    await using _all = await TestServer.start({ settings: own });
    await assert.rejects(
      TestServer.start({ role: "control", settings: own }),
      /none can stand by for it, because it has a node of its own.*--role control/,
    );
  });
});
