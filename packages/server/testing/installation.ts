import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import type { TestContext } from "node:test";
import { connect as connectTls } from "node:tls";
import { createKey, createSigningRequest } from "@caisson/certificates";
import { type AuditEvent, type Organization, openSqliteStore } from "@caisson/database";
import { LinkedNode, NodeEvents, nodeName, serveNode } from "@caisson/node-link";
import { partialNode } from "@caisson/node-link/testing";
import pino from "pino";
import { ADMIN_ORGANIZATION } from "../src/app/access/administrator.ts";
import { hashToken } from "../src/app/access/token-hash.ts";
import type { AppContext } from "../src/app/context.ts";
import { InstallationAuthority } from "../src/app/nodes/installation-authority.ts";
import { joinNode } from "../src/app/nodes/node-join.ts";
import { auditEvent } from "../src/app/operations/audit-event.ts";
import { Metrics } from "../src/metrics/metrics.ts";
import { writeMembership } from "../src/node-process/membership-file.ts";
import { MembershipRenewal } from "../src/node-process/membership-renewal.ts";
import { CertificateRenewals } from "../src/reconcilers/certificate-renewal.ts";

/** Where its node says that it is. */
export const NODE_ADDRESS = "127.0.0.1:8485";
const organization: Organization = { id: "org_a", slug: ADMIN_ORGANIZATION, createdAtMs: 0 };

/** A line of its trail. */
export function installationEvent(id: string, verb: string): AuditEvent {
  return auditEvent(null, verb, { id, organizationId: organization.id });
}

/** An installation with one node that has joined. */
export async function openInstallation(t: TestContext) {
  const directory = await mkdtemp(join(tmpdir(), "caisson-renewal-"));
  const store = openSqliteStore(join(directory, "caisson.db"));
  const metrics = new Metrics();
  t.after(async () => {
    metrics[Symbol.dispose]();
    await store.close();
    await rm(directory, { recursive: true });
  });
  await store.organizations.create(organization, installationEvent("org_a", "organization-create"));
  const authority = new InstallationAuthority(store);
  const app = { store, authority, metrics, logger: pino({ level: "silent" }) } as unknown as AppContext;
  const makeToken = (secret: string) =>
    store.joining.createToken(
      { id: `jtk_${secret}`, region: null },
      hashToken(secret),
      600_000,
      installationEvent(secret, "create"),
    );
  await makeToken("first");
  const key = createKey();
  const signingRequest = await createSigningRequest(key, "test");
  const joined = await joinNode(app, "first", { signingRequest, address: NODE_ADDRESS, certificate: null });
  const { nodeId } = joined;
  await writeMembership(directory, { ...joined, address: NODE_ADDRESS, key });
  const trail = async (id: string) => (await store.events.list(organization.id, id, 100)).map(({ verb }) => verb);
  const verbs = () => trail(nodeId);
  return { directory, store, metrics, authority, app, makeToken, key, signingRequest, joined, nodeId, trail, verbs };
}

/** The node, served as its own process does it, and a server that is connected to it. */
export async function connectToNode(t: TestContext, installation: Awaited<ReturnType<typeof openInstallation>>) {
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
  let unbelievedCount = 0;
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
  const renewals = new CertificateRenewals(app, nodeId, link, () => {
    unbelievedCount += 1;
  });
  /** What a new connection is shown. */
  const shown = async (): Promise<string> => {
    const [{ cert = "", key: ownKey = "", authority: ca = "" } = {}] = await authority.controlCredentials();
    const { port } = served;
    const servername = nodeName(nodeId);
    const socket = connectTls({ port, host: "127.0.0.1", servername, cert, key: ownKey, ca, ALPNProtocols: ["h2"] });
    await once(socket, "secureConnect");
    const certificate = socket.getPeerX509Certificate()?.toString() ?? "";
    assert.equal(socket.authorized, true);
    socket.destroy();
    return certificate;
  };
  return { link, served, renewals, shown, lostCount: () => lostCount, unbelievedCount: () => unbelievedCount };
}
