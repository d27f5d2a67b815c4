import assert from "node:assert/strict";
import { once } from "node:events";
import { readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { suite, test } from "node:test";
import { CertificateAuthority, createKey, createSigningRequest } from "@caisson/certificates";
import { nodeName, validityOf } from "@caisson/node-link";
import { connectToNode, installationEvent, openInstallation } from "../../testing/installation.ts";
import { readNodeCertificate, renewalDueAtMs } from "../app/nodes/node-certificate.ts";
import { joinNode } from "../app/nodes/node-join.ts";
import { writeMembership } from "../node-process/membership-file.ts";

const DAY_MS = 86_400_000;

suite("the renewal of a node's certificate", () => {
  test("is due when a third of its time is left, and for those that were good for ten years as if they were new ones", () => {
    assert.equal(renewalDueAtMs({ fromMs: 0, untilMs: 90 * DAY_MS }), 60 * DAY_MS);
    assert.equal(renewalDueAtMs({ fromMs: 0, untilMs: 3650 * DAY_MS }), 120 * DAY_MS);
  });

  test("happens under a connection that goes on, and the next one is shown the new certificate", async (t) => {
    const installation = await openInstallation(t);
    const { store, nodeId, joined, directory, verbs } = installation;
    const { link, renewals, shown, lostCount } = await connectToNode(t, installation);
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
    const { renewals, shown } = await connectToNode(t, installation);
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

    await store.nodes.giveUp(nodeId, installationEvent(nodeId, "give-up"));
    await renewals.look(dueMs + 400 * DAY_MS);
    assert.equal(await failures(), "2");
    assert.equal(await shown(), renewed);
  });
});

suite("a machine that is a node already", () => {
  test("joins again as that node with its key, whatever has expired, and nobody else does", async (t) => {
    const { store, authority, app, makeToken, joined, nodeId, signingRequest, verbs } = await openInstallation(t);
    const opened = await authority.oldest();
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
    for (const { cert } of await authority.controlCredentials()) await refused(cert);
    const stranger = await CertificateAuthority.create({ commonName: "Other", domain: "caisson.internal" });
    await refused(await stranger.sign(signingRequest, [nodeName(nodeId)]));
    assert.equal(await readNodeCertificate(authority, await opened.sign(signingRequest, ["nod_a.example.com"])), null);

    await store.nodes.forget(nodeId, installationEvent(nodeId, "forget"));
    await assert.rejects(joinNode(app, "third", { signingRequest, address, certificate: expired }), {
      code: "INVALID_TOKEN",
      message: new RegExp(`has forgotten node ${nodeId}.*move its data directory away`),
    });
  });
});
