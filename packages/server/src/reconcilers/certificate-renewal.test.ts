import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { suite, type TestContext, test } from "node:test";
import { connect as connectTls } from "node:tls";
import { CertificateAuthority, createKey, createSigningRequest } from "@caisson/certificates";
import { type Organization, openSqliteStore } from "@caisson/database";
import { LinkedNode, NodeEvents, nodeName, serveNode, validityOf } from "@caisson/node-link";
import { partialNode } from "@caisson/node-link/testing";
import pino from "pino";
import { ADMIN_ORGANIZATION } from "../app/access/administrator.ts";
import { hashToken } from "../app/access/token-hash.ts";
import type { AppContext } from "../app/context.ts";
import { InstallationAuthority } from "../app/nodes/installation-authority.ts";
import { readNodeCertificate, renewalDueAtMs } from "../app/nodes/node-certificate.ts";
import { joinNode } from "../app/nodes/node-join.ts";
import { auditEvent } from "../app/operations/audit-event.ts";
import { Metrics } from "../metrics/metrics.ts";
import { writeMembership } from "../node-process/membership-file.ts";
import { MembershipRenewal } from "../node-process/membership-renewal.ts";
import { CertificateRenewals } from "./certificate-renewal.ts";

const DAY_MS = 86_400_000;
const ADDRESS = "127.0.0.1:8485";
const organization: Organization = { id: "org_a", slug: ADMIN_ORGANIZATION, createdAtMs: 0 };
const event = (id: string, verb: string) => auditEvent(null, verb, { id, organizationId: organization.id });

/** An installation with one node that has joined. */
async function openInstallation(t: TestContext) {
  const directory = await mkdtemp(join(tmpdir(), "caisson-renewal-"));
  const store = openSqliteStore(join(directory, "caisson.db"));
  const metrics = new Metrics();
  t.after(async () => {
    metrics[Symbol.dispose]();
    await store.close();
    await rm(directory, { recursive: true });
  });
  await store.organizations.create(organization, event("org_a", "organization-create"));
  const authority = new InstallationAuthority(store);
  const app = { store, authority, metrics, logger: pino({ level: "silent" }) } as unknown as AppContext;
  const makeToken = (secret: string) =>
    store.joining.createToken(
      { id: `jtk_${secret}`, region: null },
      hashToken(secret),
      600_000,
      event(secret, "create"),
    );
  await makeToken("first");
  const key = createKey();
  const signingRequest = await createSigningRequest(key, "test");
  const joined = await joinNode(app, "first", { signingRequest, address: ADDRESS, certificate: null });
  const { nodeId } = joined;
  await writeMembership(directory, { ...joined, address: ADDRESS, key });
  const verbs = async () => (await store.events.list(organization.id, nodeId, 100)).map(({ verb }) => verb);
  return { directory, store, metrics, authority, app, makeToken, key, signingRequest, joined, nodeId, verbs };
}

/** The node, served as its own process does it, and a server that is connected to it. */
async function connect(t: TestContext, installation: Awaited<ReturnType<typeof openInstallation>>) {
  const { directory, nodeId, joined, key, authority, app } = installation;
  const logger = { info() {}, warn() {} };
  const agent = new PassThrough();
  const served = await serveNode({
    node: partialNode({ openAgent: () => agent }),
    events: new NodeEvents(),
    credentials: { cert: joined.certificate, key, authority: joined.authority },
    renewal: new MembershipRenewal(directory, nodeId),
    host: "127.0.0.1",
    port: 0,
    logger,
  });
  const connected = Promise.withResolvers<string>();
  let lostCount = 0;
  const link = new LinkedNode({
    nodeId,
    address: async () => ({ host: "127.0.0.1", port: served.port }),
    credentials: () => authority.controlCredentials(),
    term: 0,
    takeEvent: async () => {},
    onStopping: async () => {},
    onConnected: ({ runId }) => connected.resolve(runId),
    onLost: () => {
      lostCount += 1;
    },
    logger,
  });
  t.after(async () => {
    await link[Symbol.asyncDispose]();
    await served[Symbol.asyncDispose]();
  });
  link.begin(await connected.promise, 1);
  const renewals = new CertificateRenewals(app, nodeId, link);
  /** What a new connection is shown. */
  const shown = async (): Promise<string> => {
    const { cert, key: ownKey, authority: ca } = await authority.controlCredentials();
    const { port } = served;
    const servername = nodeName(nodeId);
    const socket = connectTls({ port, host: "127.0.0.1", servername, cert, key: ownKey, ca, ALPNProtocols: ["h2"] });
    await once(socket, "secureConnect");
    const certificate = socket.getPeerX509Certificate()?.toString() ?? "";
    assert.equal(socket.authorized, true);
    socket.destroy();
    return certificate;
  };
  return { link, renewals, shown, lostCount: () => lostCount };
}

suite("the renewal of a node's certificate", () => {
  test("is due when a third of its time is left, and for those that were good for ten years as if they were new ones", () => {
    assert.equal(renewalDueAtMs({ fromMs: 0, untilMs: 90 * DAY_MS }), 60 * DAY_MS);
    assert.equal(renewalDueAtMs({ fromMs: 0, untilMs: 3650 * DAY_MS }), 120 * DAY_MS);
  });

  test("happens under a connection that goes on, and the next one is shown the new certificate", async (t) => {
    const installation = await openInstallation(t);
    const { store, nodeId, joined, directory, verbs } = installation;
    const { link, renewals, shown, lostCount } = await connect(t, installation);
    const agent = link.openAgent("sbx_a");
    agent.write("before ");
    const [first] = await once(agent, "data");
    assert.equal(String(first), "before ");
    const old = validityOf(joined.certificate);
    assert.ok(old.untilMs - Date.now() > 179 * DAY_MS && old.untilMs - Date.now() <= 180 * DAY_MS);

    await renewals.look();
    assert.equal((await store.nodes.get(nodeId))?.certificateUntilMs, old.untilMs);
    assert.equal(validityOf(await shown()).untilMs, old.untilMs);
    assert.deepEqual(await verbs(), ["node-join"]);

    await renewals.look(renewalDueAtMs(old));
    const next = await shown();
    assert.notEqual(next.trim(), joined.certificate.trim());
    assert.equal(
      JSON.parse(await readFile(join(directory, "membership.json"), "utf8")).certificate.trim(),
      next.trim(),
    );
    assert.equal(link.certificate?.untilMs, validityOf(next).untilMs);
    assert.equal((await store.nodes.get(nodeId))?.certificateUntilMs, validityOf(next).untilMs);
    assert.deepEqual(await verbs(), ["node-certificate-renew", "node-join"]);

    agent.write("after");
    const [second] = await once(agent, "data");
    assert.equal(String(second), "after");
    assert.equal(lostCount(), 0);
    agent.destroy();
  });

  test("that fails is counted and tried again, and a node that was given up gets none", async (t) => {
    const installation = await openInstallation(t);
    const { store, nodeId, joined, directory, metrics } = installation;
    const { renewals, shown } = await connect(t, installation);
    const dueMs = renewalDueAtMs(validityOf(joined.certificate));
    const failures = async () => /work="certificate"\} (\d+)/.exec(await metrics.text())?.[1];
    const file = join(directory, "membership.json");
    const text = await readFile(file);
    await rm(file);
    await renewals.look(dueMs);
    assert.equal(await failures(), "1");
    assert.equal((await shown()).trim(), joined.certificate.trim());
    await writeMembership(directory, { ...JSON.parse(String(text)), key: installation.key });
    await renewals.look(dueMs);
    assert.equal(await failures(), "1");
    const renewed = await shown();
    assert.notEqual(renewed.trim(), joined.certificate.trim());

    await store.nodes.giveUp(nodeId, event(nodeId, "give-up"));
    await renewals.look(dueMs + 400 * DAY_MS);
    assert.equal(await failures(), "2");
    assert.equal(await shown(), renewed);
  });
});

suite("a machine that is a node already", () => {
  test("joins again as that node with its key, whatever has expired, and nobody else does", async (t) => {
    const { store, authority, app, makeToken, joined, nodeId, signingRequest, verbs } = await openInstallation(t);
    const opened = await authority.open();
    const expired = await opened.sign(signingRequest, [nodeName(nodeId)], { lifetimeMs: -DAY_MS / 2 });
    assert.ok(validityOf(expired).untilMs < Date.now());
    await makeToken("second");
    const address = "127.0.0.1:9999";
    const back = await joinNode(app, "second", { signingRequest, address, certificate: expired });
    assert.equal(back.nodeId, nodeId);
    assert.ok(validityOf(back.certificate).untilMs > Date.now() + 170 * DAY_MS);
    assert.equal((await store.nodes.get(nodeId))?.address, address);
    assert.equal((await store.nodes.list()).length, 1);
    assert.deepEqual(await verbs(), ["node-rejoin", "node-join"]);

    await makeToken("third");
    const otherRequest = await createSigningRequest(createKey(), "test");
    const refused = (certificate: string, request = signingRequest) =>
      assert.rejects(joinNode(app, "third", { signingRequest: request, address, certificate }), {
        code: "INVALID_REQUEST",
        message: /not that of a node of this installation, or not of the key/,
      });
    await refused(joined.certificate, otherRequest);
    await refused("no certificate");
    await refused((await authority.controlCredentials()).cert);
    const stranger = await CertificateAuthority.create({ commonName: "Other", domain: "caisson.internal" });
    await refused(await stranger.sign(signingRequest, [nodeName(nodeId)]));
    assert.equal(readNodeCertificate(opened, await opened.sign(signingRequest, ["nod_a.example.com"])), null);

    await store.nodes.forget(nodeId, event(nodeId, "forget"));
    await assert.rejects(joinNode(app, "third", { signingRequest, address, certificate: expired }), {
      code: "INVALID_TOKEN",
      message: new RegExp(`has forgotten node ${nodeId}.*move its data directory away`),
    });
  });
});
