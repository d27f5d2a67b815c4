import assert from "node:assert/strict";
import { X509Certificate } from "node:crypto";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { after, before, suite, test } from "node:test";
import { CertificateAuthority, createSigningRequest } from "@caisson/certificates";
import { testTimeoutMs } from "@caisson/linux/testing";
import { nodeName, splitCertificates } from "@caisson/node-link";
import { Sandbox } from "@deno/sandbox";
import { TestClient } from "./support/client.ts";
import { eventually, untilSuccess } from "./support/eventually.ts";
import { FaultPlan } from "./support/fault-plan.ts";
import { TestNodeProcess } from "./support/node-process.ts";
import { TestServer } from "./support/server.ts";

interface NodeShown {
  readonly id: string;
  readonly state: string;
  readonly regions: readonly string[];
  readonly generation: number;
  readonly address: string;
}

interface AuthorityShown {
  readonly authorities: readonly object[];
  readonly waiting_nodes: readonly string[];
}

interface SandboxShown {
  readonly status: string;
  readonly stopReason: string | null;
}

const HOUR_MS = 3_600_000;
const NODES = "/api/v1/nodes";
const TOKENS = `${NODES}/tokens`;
const AUTHORITY = `${NODES}/authority`;
/** The server's own node has `ord`, the other machine `ams`. */
const REGION = "ams";

/** A server with a node of its own, and a node in another process, which is to the server as another machine. */
suite("a server and a node on another machine", { timeout: testTimeoutMs(600_000) }, () => {
  let server: TestServer;
  let client: TestClient;
  let node: TestNodeProcess;
  let plans: string;
  let plan: FaultPlan;

  before(async () => {
    plans = await mkdtemp(join(tmpdir(), "caisson-plan-"));
    plan = new FaultPlan(plans);
    await plan.reset();
    server = await TestServer.start({ settings: "[sandboxes]\nwarm_sandboxes = 0\n" });
    Object.assign(process.env, server.clientEnv());
    client = new TestClient(server);
    node = await TestNodeProcess.create({
      settings: `regions = ["${REGION}"]\n[sandboxes]\nwarm_sandboxes = 0\n`,
      env: plan.env,
    });
  });
  after(async () => {
    await node?.[Symbol.asyncDispose]();
    await server?.[Symbol.asyncDispose]();
    await rm(plans, { recursive: true });
  });

  const isLive = (generation: number) =>
    eventually(
      `generation ${generation} of the node`,
      async () => {
        const shown = (await client.rest<NodeShown[]>("GET", NODES)).find(({ id }) => id === node.nodeId);
        return shown?.state === "live" && shown.generation === generation ? shown : null;
      },
      60_000,
    );
  const show = (id: string) => client.extended<SandboxShown>("GET", `/api/v3/sandbox/${id}`);
  /** A sandbox goes where its volumes are. Until the node takes sandboxes again: what ran there before is settled then. */
  const create = (options: Parameters<typeof Sandbox.create>[0]) =>
    untilSuccess("a sandbox on the node", () => Sandbox.create(options), 60_000);

  test("a machine joins with a token, which no second one can use", async () => {
    const { token, id } = await client.rest<{ token: string; id: string }>("POST", TOKENS, { expires_seconds: 600 });
    await assert.rejects(node.start(), /is no node yet\. Run \\?"caisson nodes tokens create/);
    await node.start(token);
    const shown = await isLive(1);
    assert.deepEqual(shown.regions, [REGION]);
    await using second = await TestNodeProcess.create();
    await assert.rejects(second.start(token), /The token was used by another machine/);
    const [listed] = await client.rest<{ id: string; node_id: string }[]>("GET", TOKENS);
    assert.deepEqual([listed?.id, listed?.node_id], [id, node.nodeId]);
    const revoked = await client.rest<{ token: string; id: string }>("POST", TOKENS, {});
    await client.rest("DELETE", `${TOKENS}/${revoked.id}`);
    await assert.rejects(second.start(revoked.token), /This server has no such token/);
    const [code] = await client.refused("POST", "/v3/nodes/join", { signing_request: "x", address: "a:1" });
    assert.equal(code, "400 INVALID_REQUEST");
    for (const expires_seconds of [3600.0005, 0, -1, 30 * 86_400 + 1, 1e300])
      assert.equal((await client.refused("POST", TOKENS, { expires_seconds }))[0], "400 INVALID_REQUEST");
  });

  test("a volume and a sandbox are made there, and used like all others", async () => {
    const volume = await client.createVolume("remote", { region: REGION });
    const sandbox = await create({ timeout: "10m", volumes: { "/data": volume.slug } });
    await sandbox.fs.writeTextFile("/data/file", "over the network");
    const child = await sandbox.spawn("sh", {
      args: ["-c", "cat /data/file; head -c 3000000 /dev/zero"],
      stdout: "piped",
    });
    const { stdout } = await child.output();
    assert.equal(stdout?.length, "over the network".length + 3_000_000);
    await client.snapshot(volume.slug, "remote-snapshot");
    await sandbox.kill();
    const copy = await client.createVolume("remote-copy", { region: REGION, from: "remote-snapshot" });
    const reader = await create({ timeout: "10m", volumes: { "/data": copy.slug } });
    assert.equal(await reader.fs.readTextFile("/data/file"), "over the network");
    await reader.kill();
  });

  test("a server that starts again takes up the sandboxes that the node has", async () => {
    const sandbox = await create({ timeout: "30m", volumes: { "/data": "remote" } });
    await sandbox.fs.writeTextFile("/data/counted", "0");
    const { id } = sandbox;
    await sandbox.spawn("sh", { args: ["-c", "while :; do date +%s%N >/data/counted; sleep 0.1; done"] });
    await server.kill();
    await server.start();
    Object.assign(process.env, server.clientEnv());
    await isLive(1);
    const again = await untilSuccess("the sandbox", () => Sandbox.connect({ id }), 60_000);
    const counted = await again.fs.readTextFile("/data/counted");
    await eventually("its process", async () =>
      (await again.fs.readTextFile("/data/counted")) === counted ? null : true,
    );
    assert.equal((await show(id)).status, "running");
    await again.kill();
    await eventually("its end", async () => ((await show(id)).status === "stopped" ? true : null));
  });

  test("a node that is killed comes back with its volumes, and its sandboxes end as lost", async () => {
    const sandbox = await create({ timeout: "30m", volumes: { "/data": "remote" } });
    await sandbox.fs.writeTextFile("/data/kept", "kept");
    const flushed = await sandbox.spawn("sync", {});
    await flushed.status;
    await node.kill();
    const [code, message] = await eventually(
      "the refusal",
      async () => {
        const refused = await client.refused("POST", "/api/v2/volumes", {
          slug: "none",
          region: REGION,
          capacity: "300MB",
        });
        return refused[0] === "503 NODE_UNAVAILABLE" ? refused : null;
      },
      60_000,
    );
    assert.equal(code, "503 NODE_UNAVAILABLE", message);
    await node.start();
    await isLive(2);
    await eventually(
      "the end of the lost sandbox",
      async () => ((await show(sandbox.id)).stopReason === "node-lost" ? true : null),
      60_000,
    );
    const reader = await create({ timeout: "10m", volumes: { "/data": "remote" } });
    assert.equal(await reader.fs.readTextFile("/data/kept"), "kept");
    await reader.kill();
  });

  test("a node that is stopped has its sandboxes ended first, and what the server's own node has goes on", async () => {
    const ended = await create({ timeout: "30m", volumes: { "/data": "remote" } });
    await node.stop();
    assert.equal((await show(ended.id)).stopReason, "server-stopped");
    await using sandbox = await Sandbox.create();
    const child = await sandbox.spawn("true", {});
    assert.equal((await child.status).code, 0);
  });

  test("a machine that has another address is found there when its administrator says so", async () => {
    const path = `/api/v1/nodes/${node.nodeId}`;
    await node.move();
    await node.start();
    assert.match(node.logText(), /was at 127\.0\.0\.1:\d+ before.*caisson nodes set-address nod_/);
    const address = `127.0.0.1:${node.port}`;
    assert.equal((await client.rest<NodeShown>("PATCH", path, { address })).address, address);
    assert.equal((await isLive(3)).address, address);
    for (const none of ["", "127.0.0.1", "127.0.0.1:0", "x".repeat(400)])
      assert.equal((await client.refused("PATCH", path, { address: none }))[0].slice(0, 3), "400", none);
    const own = (await client.rest<NodeShown[]>("GET", NODES)).find(({ id }) => id !== node.nodeId);
    const [code, message] = await client.refused("PATCH", `${NODES}/${own?.id}`, { address });
    assert.match(`${code} ${message}`, /400 INVALID_REQUEST .*in the process of a server/);
    assert.equal((await client.refused("PATCH", `${NODES}/nod_none`, { address }))[0], "404 NODE_NOT_FOUND");
  });

  test("a node whose certificate has expired joins again as itself, and one that is due is renewed, also after a kill half-way", async () => {
    const { nodeId } = node;
    const { generation } = await client.rest<NodeShown>("GET", `${NODES}/${nodeId}`);
    const path = join(node.dataDirectory, "membership.json");
    const membership = async () => JSON.parse(await readFile(path, "utf8")) as Record<string, string>;
    const untilMs = async () => new X509Certificate((await membership()).certificate ?? "").validToDate.getTime();
    await node.stop();
    using database = new DatabaseSync(join(server.dataDirectory, "database/caisson.db"), { readOnly: true });
    const { certificate, private_key } = database.prepare("SELECT * FROM authorities").get() ?? {};
    const keys = { cert: String(certificate), key: String(private_key) };
    const authority = await CertificateAuthority.open(keys, "test");
    const key = await readFile(join(node.dataDirectory, "membership-key.pem"), "utf8");
    const request = await createSigningRequest(key, "test");
    const giveCertificate = async (lifetimeMs: number) => {
      const signed = await authority.sign(request, [nodeName(nodeId)], { lifetimeMs });
      await writeFile(path, JSON.stringify({ ...(await membership()), certificate: signed }));
    };
    await giveCertificate(-HOUR_MS);
    await assert.rejects(node.start(), /certificate of node nod_\w+ was good until .*caisson nodes tokens create/);
    const { token } = await client.rest<{ token: string }>("POST", TOKENS, {});
    await node.start(token);
    assert.equal(node.nodeId, nodeId);
    await isLive(generation + 1);
    assert.ok((await untilMs()) > Date.now() + 100 * 24 * HOUR_MS);

    await node.stop();
    // Good for a day already, and for an hour more.
    await giveCertificate(HOUR_MS);
    await plan.at([{ tag: "membership.commit:before", occurrence: 1 }], "kill");
    // The server may be there before the node has said that it is ready.
    await node.start().catch(() => {});
    await node.exited();
    assert.ok((await untilMs()) < Date.now() + 2 * HOUR_MS);
    await plan.reset();
    await node.start();
    await eventually("the new certificate", async () =>
      (await untilMs()) > Date.now() + 100 * 24 * HOUR_MS ? true : null,
    );
    assert.notEqual((await membership()).key, key);
    const shown = await eventually("its row", async () => {
      const { certificate_until: until } = await client.rest<{ certificate_until: string }>(
        "GET",
        `${NODES}/${nodeId}`,
      );
      return Date.parse(until) > Date.now() + 100 * 24 * HOUR_MS ? Date.parse(until) : null;
    });
    assert.equal(shown, await untilMs());
    const reader = await create({ timeout: "10m", volumes: { "/data": "remote" } });
    assert.equal(await reader.fs.readTextFile("/data/file"), "over the network");
    await reader.kill();
  });

  test("the authority is renewed and retired while a sandbox goes on, and over kills of the server and a start of the node", async () => {
    const path = `${NODES}/${node.nodeId}`;
    const { generation } = await client.rest<NodeShown>("GET", path);
    const believed = async () => {
      const { authority } = JSON.parse(await readFile(join(node.dataDirectory, "membership.json"), "utf8"));
      return splitCertificates(authority).length;
    };
    const state = () => client.rest<AuthorityShown>("GET", AUTHORITY);
    const restart = async () => {
      await server.kill();
      await server.start();
      Object.assign(process.env, server.clientEnv());
      await isLive(generation);
    };
    await client.rest("POST", TOKENS, {});
    const sandbox = await create({ timeout: "30m", volumes: { "/data": "remote" } });
    await sandbox.fs.writeTextFile("/data/authority", "kept");
    const { id } = sandbox;
    const read = async () => {
      const again = await untilSuccess("the sandbox", () => Sandbox.connect({ id }), 60_000);
      assert.equal(await again.fs.readTextFile("/data/authority"), "kept");
      return again;
    };
    assert.equal((await client.rest<AuthorityShown>("POST", `${AUTHORITY}/renew`)).authorities.length, 2);
    await eventually("its certificate", async () => ((await state()).waiting_nodes.length === 0 ? true : null), 60_000);
    assert.equal(await believed(), 2);
    assert.equal(await sandbox.fs.readTextFile("/data/authority"), "kept");
    await restart();
    await read();
    assert.equal((await client.rest<AuthorityShown>("POST", `${AUTHORITY}/retire`, {})).authorities.length, 1);
    await eventually("it is told", async () => ((await believed()) === 1 ? true : null), 60_000);
    assert.deepEqual(await client.rest("GET", TOKENS), []);
    await restart();
    await (await read()).kill();
    await node.stop();
    await node.start();
    await isLive(generation + 1);
    assert.deepEqual((await state()).waiting_nodes, []);
  });

  test("a node that is lost for ever is forgotten with what it had, and ends for good when it comes back after all", async () => {
    const sandbox = await create({ timeout: "30m", volumes: { "/data": "remote" } });
    await node.kill();
    const path = `/api/v1/nodes/${node.nodeId}`;
    const isSuspect = async () => (await client.rest<{ state: string }>("GET", path)).state === "suspect";
    await eventually("its lease is over", async () => ((await isSuspect()) ? true : null), 60_000);
    await client.rest("DELETE", `${path}?lost=true`);
    assert.equal((await show(sandbox.id)).stopReason, "node-lost");
    const { unavailable } = await client.extended<{ unavailable: string }>("GET", "/api/v2/volumes/remote");
    assert.match(unavailable, new RegExp(`node ${node.nodeId} that held it was forgotten on`));
    // Killed before it has written down what it was told: it is told again.
    await plan.at([{ tag: "membership-forgotten.commit:before", occurrence: 1 }], "kill");
    await node.start();
    await node.exited();
    await plan.reset();
    await node.start();
    const told = /has forgotten node nod_\w+ on \d{4}-.*join with a new token/;
    await eventually("it is told", () => (told.test(node.logText()) ? true : null), 60_000);
    assert.equal(await node.exited(), 1);
    await assert.rejects(node.start(), told);
  });
});
