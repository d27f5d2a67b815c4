import assert from "node:assert/strict";
import { X509Certificate } from "node:crypto";
import { once } from "node:events";
import { connect as connectHttp2 } from "node:http2";
import { suite, test } from "node:test";
import { connect as connectTls, type TLSSocket } from "node:tls";
import { createKey, createSigningRequest } from "@caisson/certificates";
import { type LinkCredentials, nodeName, splitCertificates, validityOf } from "@caisson/node-link";
import { connectToNode, NODE_ADDRESS, openInstallation } from "../../testing/installation.ts";
import { readAuthority } from "../app/nodes/authority-get.ts";
import { addAuthority } from "../app/nodes/authority-renew.ts";
import { retireOldest } from "../app/nodes/authority-retire.ts";
import { pinOf } from "../app/nodes/join-token.ts";
import { joinNode } from "../app/nodes/node-join.ts";
import { readMembership } from "../node-process/membership-file.ts";
import { tendAuthority } from "./authority-renewal.ts";

const DAY_MS = 86_400_000;

/** As a server does. */
function connectAs(port: number, nodeId: string, { cert, key, authority: ca }: LinkCredentials): TLSSocket {
  return connectTls({ port, host: "127.0.0.1", servername: nodeName(nodeId), cert, key, ca, ALPNProtocols: ["h2"] });
}

/** Until the node has judged the certificate: null where it is believed, else why the connection ended. */
async function refusalOf(port: number, nodeId: string, credentials: LinkCredentials): Promise<string | null> {
  const socket = connectAs(port, nodeId, credentials);
  const { promise, resolve } = Promise.withResolvers<string | null>();
  // The first bytes are the settings of the session that the node has begun.
  socket.once("data", () => resolve(null));
  socket.on("error", (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
  socket.once("close", () => resolve("closed"));
  const refusal = await promise;
  socket.destroy();
  return refusal;
}

suite("the renewal of the installation's authority", () => {
  test("reaches a node under a connection that goes on, and the old one is believed until it is retired", async (t) => {
    const installation = await openInstallation(t);
    const { app, store, authority, directory, nodeId, joined, verbs } = installation;
    const { link, served, renewals, lostCount, unbelievedCount } = await connectToNode(t, installation);
    const agent = link.openAgent("sbx_a");
    const echo = async (text: string) => {
      agent.write(text);
      assert.equal(String((await once(agent, "data"))[0]), text);
    };
    await echo("before");
    const believed = async () => splitCertificates((await readMembership(directory))?.authority ?? "").map(pinOf);
    const pins = async () => (await readAuthority(app)).believed.map(({ fingerprint }) => fingerprint);
    const row = async () => {
      const node = await store.nodes.get(nodeId);
      return [node?.certificateAuthority, node?.oldestAuthority];
    };
    await renewals.look();
    assert.deepEqual(await row(), [1, null]);
    const [old = ""] = await pins();
    const [early] = await authority.controlCredentials();
    assert.ok(early !== undefined);
    // One that the key of the old authority gets in, and that stays.
    const stranger = connectHttp2("https://x", { createConnection: () => connectAs(served.port, nodeId, early) });
    stranger.on("error", () => {});
    await once(stranger, "remoteSettings");

    assert.equal(await addAuthority(app, null, 1), true);
    assert.equal(await addAuthority(app, null, 1), false);
    const [, next = ""] = await pins();
    assert.deepEqual((await readAuthority(app)).waitingNodeIds, [nodeId]);
    await renewals.look();
    assert.deepEqual(await row(), [2, 1]);
    assert.deepEqual((await readAuthority(app)).waitingNodeIds, []);
    assert.deepEqual(await believed(), [next, old]);
    const membership = await readMembership(directory);
    assert.deepEqual(membership?.former, [{ pin: old, certificate: joined.certificate, key: installation.key }]);
    const [byOld, byNew] = await authority.controlCredentials();
    assert.ok(byOld !== undefined && byNew !== undefined);
    for (const shown of [early, byOld, byNew])
      assert.equal(await refusalOf(served.port, nodeId, { ...shown, authority: byNew.authority }), null);
    const again = link.certificate?.pem;
    await renewals.look();
    assert.equal(link.certificate?.pem, again, "what is up to date stays");
    await echo("between");

    assert.equal(stranger.closed, false);
    const ended = new Promise((resolve) => stranger.once("close", resolve));
    assert.equal((await retireOldest(app, null, { number: 1, isLockingOut: false })).kind, "retired");
    await renewals.look();
    await ended;
    assert.deepEqual(await row(), [2, 2]);
    assert.deepEqual(await believed(), [next]);
    assert.deepEqual(await pins(), [next]);
    const [alone, another] = await authority.controlCredentials();
    assert.ok(alone !== undefined && another === undefined);
    for (const shown of [early, byOld])
      assert.notEqual(await refusalOf(served.port, nodeId, { ...shown, authority: alone.authority }), null);
    for (const shown of [byNew, alone]) assert.equal(await refusalOf(served.port, nodeId, shown), null);
    await echo("after");
    assert.deepEqual([lostCount(), unbelievedCount()], [0, 0]);
    agent.destroy();
    assert.deepEqual(await verbs(), ["node-certificate-renew", "node-certificate-renew", "node-join"]);
    assert.deepEqual(await installation.trail("authority"), [
      "authority-retire",
      "authority-renew",
      "authority-create",
    ]);
  });

  test("is told to nodes when it begins, when it ends, and when it was cut off, one look after the other", async (t) => {
    const installation = await openInstallation(t);
    const { app, directory, store, nodeId } = installation;
    const { renewals, shown } = await connectToNode(t, installation);
    const stop = renewals.start();
    await addAuthority(app, null, 1);
    // Looks at once would each make the node forget the request of the other.
    await Promise.all([renewals.look(), renewals.look()]);
    assert.equal((await store.nodes.get(nodeId))?.certificateAuthority, 2);
    await retireOldest(app, null, { number: 1, isLockingOut: false });
    await stop();
    assert.equal((await store.nodes.get(nodeId))?.oldestAuthority, 2);
    assert.doesNotMatch(await installation.metrics.text(), /work="certificate"\} [1-9]/);
    // As when the server was killed before the row knew: the node is told again.
    await store.nodes.setCertificate(nodeId, { untilMs: 1, authority: 1, oldestAuthority: 1 }, null);
    const before = await shown();
    await renewals.look();
    assert.notEqual(await shown(), before);
    assert.equal((await store.nodes.get(nodeId))?.oldestAuthority, 2);
    assert.equal(splitCertificates((await readMembership(directory))?.authority ?? "").length, 1);
  });

  test("ends the connection with a node that was locked out, which gets nothing over it and joins again as the node that it is", async (t) => {
    const installation = await openInstallation(t);
    const { app, makeToken, nodeId, joined, signingRequest, store } = installation;
    const { link, renewals, unbelievedCount } = await connectToNode(t, installation);
    await renewals.look();
    await addAuthority(app, null, 1);
    await makeToken("early");
    assert.deepEqual(await retireOldest(app, null, { number: 1, isLockingOut: false }), {
      kind: "refused",
      nodeIds: [nodeId],
    });
    assert.equal((await retireOldest(app, null, { number: 1, isLockingOut: true })).kind, "retired");
    await renewals.look();
    assert.equal(unbelievedCount(), 1);
    assert.equal(link.certificate?.pem.trim(), joined.certificate.trim());
    assert.deepEqual((await readAuthority(app)).waitingNodeIds, [nodeId]);

    const comeBack = (secret: string, certificate = joined.certificate) =>
      joinNode(app, secret, { signingRequest, address: NODE_ADDRESS, certificate });
    await assert.rejects(comeBack("early"), { code: "INVALID_TOKEN" });
    await makeToken("late");
    const back = await comeBack("late");
    assert.equal(back.nodeId, nodeId);
    const [{ fingerprint } = { fingerprint: "" }] = (await readAuthority(app)).believed;
    assert.equal(pinOf(back.authority), fingerprint);
    assert.ok(new X509Certificate(back.certificate).verify(new X509Certificate(back.authority).publicKey));

    // Once it has one of the new authority, what the key of the old one signs shows no more who a machine is.
    await store.nodes.setCertificate(nodeId, { untilMs: 1, authority: 2, oldestAuthority: null }, null);
    await makeToken("stolen");
    await assert.rejects(comeBack("stolen"), { code: "INVALID_REQUEST", message: /since its authority was retired/ });
    assert.equal((await comeBack("stolen", back.certificate)).nodeId, nodeId);
  });

  test("leaves what begins to the old authority, which each node believes, until that is retired", async (t) => {
    const { app, authority, makeToken } = await openInstallation(t);
    const [only] = await authority.believed();
    await addAuthority(app, null, 1);
    await makeToken("second");
    const signingRequest = await createSigningRequest(createKey(), "test");
    const joined = await joinNode(app, "second", { signingRequest, address: NODE_ADDRESS, certificate: null });
    assert.equal(joined.authority, only.authority.certificatePem);
    assert.equal((await authority.oldest()).certificatePem, only.authority.certificatePem);
  });

  test("begins by itself when two years are left, and ends when the old one does", async (t) => {
    const { app, authority, store, nodeId, joined } = await openInstallation(t);
    const untilMs = (await authority.oldest()).expiresAtMs;
    const numbers = async () => (await readAuthority(app)).believed.map(({ number }) => number);
    const at = async (nowMs: number) => {
      await tendAuthority(app, nowMs);
      return numbers();
    };
    assert.deepEqual(await at(untilMs - 731 * DAY_MS), [1]);
    const seen = (authorityNumber: number, certificateUntilMs: number) =>
      store.nodes.setCertificate(
        nodeId,
        { untilMs: certificateUntilMs, authority: authorityNumber, oldestAuthority: null },
        null,
      );
    await seen(1, validityOf(joined.certificate).untilMs);
    assert.deepEqual(await at(untilMs - 730 * DAY_MS), [1], "a clock by which every certificate has expired is wrong");
    await seen(1, untilMs);
    assert.deepEqual(await at(untilMs - 730 * DAY_MS), [1, 2]);
    assert.deepEqual(await at(untilMs - DAY_MS), [1, 2]);
    assert.deepEqual(await at(untilMs), [1, 2], "it would lock out a node");
    assert.deepEqual(
      (await authority.believed(untilMs)).map(({ number }) => number),
      [2],
      "that it has ended is enough",
    );
    await seen(2, untilMs);
    assert.deepEqual(await at(untilMs), [2]);
    const [, second] = await store.joining.authorities();
    assert.ok(second !== undefined && validityOf(second.certificate).untilMs >= untilMs);
  });
});
