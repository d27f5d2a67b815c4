import assert from "node:assert/strict";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import { testTimeoutMs } from "@caisson/linux/testing";
import { Sandbox } from "@deno/sandbox";
import { TestClient } from "./support/client.ts";
import { eventually } from "./support/eventually.ts";
import { TestNodeProcess } from "./support/node-process.ts";
import { PreviewClient } from "./support/preview-client.ts";
import { serve } from "./support/preview-world.ts";
import { TestServer } from "./support/server.ts";
import { SshClient, type SshEndpoint } from "./support/ssh-client.ts";

const REGION = "ord";

/** Everything that a client does reaches the sandbox over the connection to its node: there is no other way. */
suite("a server without a node of its own", { timeout: testTimeoutMs(600_000) }, () => {
  let server: TestServer;
  let client: TestClient;
  let node: TestNodeProcess;
  let directory: string;

  before(async () => {
    directory = await mkdtemp(join(tmpdir(), "caisson-role-"));
    server = await TestServer.start({ role: "control" });
    Object.assign(process.env, server.clientEnv());
    client = new TestClient(server);
    node = await TestNodeProcess.create({
      settings: `regions = ["${REGION}"]\n[sandboxes]\nwarm_sandboxes = 0\n`,
    });
  });
  after(async () => {
    await node?.[Symbol.asyncDispose]();
    await server?.[Symbol.asyncDispose]();
    await rm(directory, { recursive: true });
  });

  test("has no pool, and says what to do before a machine has joined", async () => {
    assert.deepEqual(await client.rest("GET", "/api/v1/pools"), []);
    assert.deepEqual(await client.rest("GET", "/api/v1/nodes"), []);
    const [code, message] = await client.createRefused({});
    assert.equal(code, "400 INVALID_REGION");
    assert.match(message, /no node has begun yet.*caisson nodes tokens create/);
    const names = await readdir(server.dataDirectory);
    assert.deepEqual(
      names.filter((name) => ["node.json", "regions", "run"].includes(name)),
      [],
    );
    const [grow] = await client.refused("POST", "/api/v1/pools/grow", {});
    assert.equal(grow, "400 INVALID_CONFIG");
  });

  test("has the node of a machine that joins, and what happens there is reached through it", async () => {
    const { token } = await client.rest<{ token: string }>("POST", "/api/v1/nodes/tokens", {});
    await node.start(token);
    await eventually(
      "the node is connected",
      async () => {
        const [shown] = await client.rest<{ connected: boolean; run: string }[]>("GET", "/api/v1/nodes");
        return shown?.connected === true && shown.run !== "" ? shown : null;
      },
      60_000,
    );
    await client.createVolume("kept");
    await using sandbox = await Sandbox.create({ volumes: { "/v": "kept" }, allowNet: [] });
    await sandbox.fs.writeTextFile("/v/file", "over the link");
    assert.equal(
      (await sandbox.sh`curl -s --max-time 5 https://192.0.2.1 || echo refused`.text()).trim(),
      "refused",
      "its egress policy goes with it",
    );

    await serve(sandbox, 8000, "127.0.0.1");
    const preview = await PreviewClient.of(server.dataDirectory);
    const answer = await preview.get(await sandbox.exposeHttp({ port: 8000 }));
    assert.equal(answer.status, 200, answer.body);

    const ssh = await SshClient.of(await client.rest<SshEndpoint>("GET", "/api/v1/ssh"), directory);
    const { username } = await sandbox.exposeSsh();
    const { stdout, code } = await ssh.ssh(username, ["cat /v/file; exit 3"]);
    assert.deepEqual([stdout.toString(), code], ["over the link", 3]);

    await client.snapshot("kept", "image");
    const exported = await server.request("/api/v2/snapshots/image/export");
    const file = new Uint8Array(await exported.arrayBuffer());
    const imported = await server.request("/api/v2/snapshots/import?slug=again", { method: "POST", body: file });
    assert.equal(imported.status, 200, await imported.text());
    await client.createVolume("copy", { from: "again" });
    await client.with({ volumes: { "/v": "copy" } }, async (reader) =>
      assert.equal(await reader.fs.readTextFile("/v/file"), "over the link"),
    );
    const [pool] = await client.rest<{ problem: string | null; total: number; node: string }[]>("GET", "/api/v1/pools");
    assert.deepEqual([pool?.problem, pool?.node], [null, node.nodeId]);
    assert.ok((pool?.total ?? 0) > 0);
  });

  test("answers what is on a node that is gone with 503, and previews with theirs, and goes on when it is back", async () => {
    const sandbox = await Sandbox.create({ timeout: "10m" });
    await serve(sandbox, 8000, "127.0.0.1");
    const preview = await PreviewClient.of(server.dataDirectory);
    const url = await sandbox.exposeHttp({ port: 8000 });
    assert.equal((await preview.get(url)).status, 200);
    await node.kill();
    await eventually(
      "the preview says so",
      async () => ((await preview.get(url)).status === 503 ? true : null),
      60_000,
    );
    await assert.rejects(Sandbox.connect({ id: sandbox.id }), /503|cannot reach/);
    const [code, message] = await client.refused("POST", "/api/v2/volumes/kept/snapshot", { slug: "none" });
    assert.equal(code, "503 NODE_UNAVAILABLE");
    assert.match(message, /which this server cannot reach\. .*caisson nodes show/);
    const exported = await server.request("/api/v2/snapshots/image/export");
    assert.deepEqual([exported.status, exported.headers.get("retry-after")], [503, "5"]);
    await node.start();
    await eventually(
      "the sandbox has ended",
      async () => {
        const { stopReason } = await client.extended<{ stopReason: string | null }>(
          "GET",
          `/api/v3/sandbox/${sandbox.id}`,
        );
        return stopReason === "node-lost" ? true : null;
      },
      60_000,
    );
    await client.snapshot("kept", "later");
  });
});
