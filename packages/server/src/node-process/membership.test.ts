import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdir, mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { createServer, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite, test } from "node:test";
import { CertificateAuthority } from "@caisson/certificates";
import { LINK_DOMAIN, nodeName } from "@caisson/node-link";
import { pinOf, printJoinToken } from "../app/nodes/join-token.ts";
import { checkMembership, judgeAuthority, judgeMembership } from "../doctor/membership-check.ts";
import { ensureMembership } from "./membership.ts";
import { rememberDismissal } from "./membership-file.ts";
import { MembershipRenewal } from "./membership-renewal.ts";
import { ownAddress } from "./node-address.ts";

interface Asked {
  readonly authorization: string | undefined;
  readonly body: { readonly signing_request: string; readonly address: string; readonly certificate?: string };
}

/** A server that signs, unless a test says otherwise. */
async function openServer(answer?: (signed: object) => { readonly status?: number; readonly body: unknown }) {
  const authority = await CertificateAuthority.create({ commonName: "Test", domain: LINK_DOMAIN });
  const directory = await mkdtemp(join(tmpdir(), "caisson-membership-"));
  const asked: Asked[] = [];
  const lifetime = { ms: 60_000 };
  const signer = { authority };
  const server = createServer(async (request: IncomingMessage, response) => {
    const body = JSON.parse(Buffer.concat(await Array.fromAsync(request)).toString());
    asked.push({ authorization: request.headers.authorization, body });
    const by = signer.authority;
    const certificate = await by.sign(body.signing_request, [nodeName("nod_a")], { lifetimeMs: lifetime.ms });
    const signed = { node_id: "nod_a", certificate, authority: by.certificatePem, region: null };
    const made = answer?.(signed) ?? { body: signed };
    response.writeHead(made.status ?? 200, { "content-type": "application/json" });
    response.end(typeof made.body === "string" ? made.body : JSON.stringify(made.body));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const pin = pinOf(authority.certificatePem);
  const wish = { token: printJoinToken({ url, pin, secret: "secret" }), address: "10.0.0.2:8485", regions: ["ord"] };
  return {
    authority,
    signer,
    directory,
    asked,
    lifetime,
    url,
    pin,
    wish,
    join: (changes: Partial<Omit<typeof wish, "token"> & { readonly token: string | null }> = {}) =>
      ensureMembership(directory, { ...wish, ...changes }),
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
      await rm(directory, { recursive: true });
    },
  };
}

suite("the membership of a node", () => {
  test("is made once with a token, and stands without it", async () => {
    await using server = await openServer();
    const { directory, join: joinNode } = server;
    const made = await joinNode();
    assert.equal(made.nodeId, "nod_a");
    assert.equal(server.asked[0]?.authorization, "Bearer secret");
    assert.equal(server.asked[0]?.body.address, "10.0.0.2:8485");
    for (const name of ["membership.json", "membership-key.pem"])
      assert.equal((await stat(join(directory, name))).mode & 0o777, 0o600);
    assert.doesNotMatch(JSON.stringify(server.asked), /PRIVATE/);
    assert.deepEqual(await joinNode({ token: null }), made);
    // The command may stay in a service's file.
    assert.deepEqual(await joinNode(), made);
    assert.equal(server.asked.length, 1);
  });

  test("is finished with the same key by the same command, wherever it was cut off", async () => {
    let isCut = true;
    await using server = await openServer((signed) => (isCut ? { status: 502, body: "" } : { body: signed }));
    await assert.rejects(server.join(), { code: "INVALID_CONFIG", message: /it answers 502/ });
    const key = await readFile(join(server.directory, "membership-key.pem"), "utf8");
    isCut = false;
    assert.equal((await server.join()).key, key);
    await rm(join(server.directory, "membership.json"));
    assert.equal((await server.join()).key, key);
  });

  test("is refused for a server of another authority than the token's, and nothing is kept", async () => {
    await using server = await openServer();
    const other = printJoinToken({ url: server.url, pin: "00".repeat(32), secret: "secret" });
    await assert.rejects(server.join({ token: other }), {
      code: "INVALID_CONFIG",
      message: /is not the server that made the token/,
    });
    await assert.rejects(server.join({ token: null }), {
      message: /is no node yet. Run "caisson nodes tokens create"/,
    });
  });

  test("is refused where this directory is a node of another installation, or a server", async () => {
    await using server = await openServer();
    await server.join();
    const other = printJoinToken({ url: server.url, pin: "00".repeat(32), secret: "secret" });
    await assert.rejects(server.join({ token: other }), { message: /is node nod_a of another installation/ });
    await rm(join(server.directory, "membership.json"));
    await writeFile(join(server.directory, "node.json"), "{}");
    await assert.rejects(server.join(), { message: /belongs to a server with a database of its own/ });
  });

  test("goes with its machine to another address, which it remembers", async () => {
    await using server = await openServer();
    const { movedFrom, ...made } = await server.join();
    assert.equal(movedFrom, null);
    const moved = { ...made, address: "10.0.0.3:8485" };
    assert.deepEqual(await server.join({ address: moved.address }), { ...moved, movedFrom: "10.0.0.2:8485" });
    assert.deepEqual(await server.join({ address: moved.address, token: null }), { ...moved, movedFrom: null });
    assert.doesNotMatch(await readFile(join(server.directory, "membership.json"), "utf8"), /PRIVATE|movedFrom/);
    assert.equal(server.asked.length, 1);
  });

  test("says what the server says, and what is wrong with a clock, a region and a token", async () => {
    await using refusing = await openServer(() => ({
      status: 401,
      body: { code: "INVALID_TOKEN", message: "The token has expired" },
    }));
    await assert.rejects(refusing.join(), { message: /^Cannot join at http:.*: The token has expired/ });
    await using server = await openServer();
    server.lifetime.ms = -3_600_000;
    await assert.rejects(server.join(), { message: /By the clock of this machine it is .*set the clocks/ });
    server.lifetime.ms = 60_000;
    await server.join();
    await using bound = await openServer((signed) => ({ body: { ...signed, region: "ams" } }));
    await assert.rejects(bound.join(), { message: /may have region ams alone.*set regions = \["ams"\]/ });
    await bound.join({ regions: ["ams"] });
    await assert.rejects(server.join({ token: "ddo_x" }), { message: /no token for joining/ });
    const gone = await openServer();
    await gone[Symbol.asyncDispose]();
    const nobody = printJoinToken({ url: gone.url, pin: server.pin, secret: "x" });
    await assert.rejects(refusing.join({ token: nobody }), {
      message: /does not answer there \(ECONNREFUSED\).*"public_url"/,
    });
  });

  test("says what to do when its certificate has expired, and with a new token it stays the node that it is", async () => {
    let isRefusing = false;
    await using server = await openServer((signed) =>
      isRefusing ? { status: 401, body: { message: "The token was used by another machine" } } : { body: signed },
    );
    const { movedFrom, ...made } = await server.join();
    const file = join(server.directory, "membership.json");
    const { cert } = await server.authority.issue([nodeName("nod_a")], { lifetimeMs: -60_000 });
    await writeFile(file, JSON.stringify({ ...made, region: "ord", key: undefined, certificate: cert }));
    await assert.rejects(server.join({ token: null }), {
      code: "INVALID_CONFIG",
      message:
        /certificate of node nod_a was good until .*If the clock is wrong.*caisson nodes tokens create.*--join TOKEN\. It stays the same node, with its volumes in/,
    });
    isRefusing = true;
    await assert.rejects(server.join(), {
      message: /good until .*tokens create.*The token was used by another machine$/,
    });
    isRefusing = false;
    const back = await server.join();
    assert.deepEqual([back.nodeId, back.key, back.region], ["nod_a", made.key, "ord"]);
    const { body } = server.asked.at(-1) ?? {};
    assert.equal(body?.certificate, cert);
    assert.deepEqual(await server.join({ token: null }), back);
  });

  test("takes a new certificate with its new key at once, and a failure leaves it as it was", async () => {
    await using server = await openServer();
    const { movedFrom, ...made } = await server.join();
    const { directory, authority } = server;
    const renewal = new MembershipRenewal(directory, "nod_a");
    const sign = async (request: string, name = "nod_a", by = authority, lifetimeMs = 120_000) => ({
      cert: await by.sign(request, [nodeName(name)], { lifetimeMs }),
      authority: by.certificatePem,
    });
    const early = { cert: made.certificate, authority: made.authority };
    await assert.rejects(renewal.accept(early), /Nobody has asked/);
    const first = await renewal.request();
    const second = await renewal.request();
    await assert.rejects(renewal.accept(await sign(first)), /signed for another key/);
    await assert.rejects(renewal.accept(await sign(second, "nod_b")), /not for node nod_a/);
    await assert.rejects(renewal.accept(await sign(second, "nod_a", authority, -60_000)), /set the clocks/);
    const other = await CertificateAuthority.create({ commonName: "Other", domain: LINK_DOMAIN });
    const mixed = { ...(await sign(second, "nod_a", other)), authority: authority.certificatePem };
    await assert.rejects(renewal.accept(mixed), /signed for another key/);
    assert.deepEqual(await server.join({ token: null }), { ...made, movedFrom: null });
    // The file cannot be replaced, as on a full disk.
    await mkdir(join(directory, "membership.json.new"));
    await assert.rejects(renewal.accept(await sign(second)), { code: "EISDIR" });
    assert.deepEqual(await server.join({ token: null }), { ...made, movedFrom: null });
    await rm(join(directory, "membership.json.new"), { recursive: true });
    const shown = await renewal.accept(await sign(second));
    assert.notEqual(shown.key, made.key);
    const renewed = { ...made, certificate: shown.cert, authority: shown.authority, key: shown.key };
    assert.deepEqual(await server.join({ token: null }), { ...renewed, movedFrom: null });
    await assert.rejects(stat(join(directory, "membership-key.pem")), { code: "ENOENT" });
    assert.equal((await stat(join(directory, "membership.json"))).mode & 0o777, 0o600);
    // A kill between the two leaves the first key too, which is not taken for the one in use.
    await writeFile(join(directory, "membership-key.pem"), made.key);
    const moved = await server.join({ token: null, address: "10.0.0.9:8485" });
    assert.equal(moved.key, shown.key);
    assert.equal((await server.join({ token: null, address: "10.0.0.9:8485" })).key, shown.key);
    assert.equal(judgeMembership(moved, Date.now()).status, "warning");
    assert.equal(judgeMembership(moved, Date.now() - 31 * 86_400_000).status, "ok");
    assert.match(judgeMembership(moved, Date.now() + 180_000).remedy ?? "", /nodes tokens create.*stays the same node/);
    assert.deepEqual(await checkMembership(join(directory, "none")), []);
    const [check, authorityCheck] = await checkMembership(directory);
    assert.match(check?.found ?? "", /^nod_a, good until/);
    assert.deepEqual([authorityCheck?.status, authorityCheck?.name], ["ok", "authority of this node's installation"]);
    const late = judgeAuthority(moved, authority.expiresAtMs - 365 * 86_400_000);
    assert.match(`${late.status}: ${late.remedy}`, /^warning: .*caisson nodes authority show/);
  });

  test("follows its installation's authority: a token of a new one lets it join again, one of an old one may stay where it is", async () => {
    let isRefusing = false;
    await using server = await openServer((signed) =>
      isRefusing ? { status: 401, body: { message: "The token was used by another machine" } } : { body: signed },
    );
    const { directory, signer, url } = server;
    const first = signer.authority;
    const [second, third] = await Promise.all(
      ["Second", "Third"].map((commonName) => CertificateAuthority.create({ commonName, domain: LINK_DOMAIN })),
    );
    assert.ok(second !== undefined && third !== undefined);
    const tokenOf = (authority: CertificateAuthority) =>
      printJoinToken({ url, pin: pinOf(authority.certificatePem), secret: "secret" });
    const { movedFrom, ...made } = await server.join();
    assert.equal(made.former, undefined);
    const renewal = new MembershipRenewal(directory, "nod_a");
    const cert = await second.sign(await renewal.request(), [nodeName("nod_a")], { lifetimeMs: 600_000 });
    await renewal.accept({ cert, authority: `${second.certificatePem}${first.certificatePem}` });
    const renewed = await server.join({ token: null });
    const firstIdentity = { pin: pinOf(first.certificatePem), certificate: made.certificate, key: made.key };
    assert.deepEqual(renewed.former, [firstIdentity]);
    assert.deepEqual(await server.join({ token: tokenOf(second) }), renewed);
    assert.equal(server.asked.length, 1);
    isRefusing = true;
    assert.deepEqual(await server.join({ token: tokenOf(first) }), renewed);
    await assert.rejects(server.join({ token: tokenOf(third) }), {
      code: "INVALID_CONFIG",
      message: /is node nod_a of another installation, or.*used by another machine\. Leave --join away/,
    });
    assert.deepEqual(await server.join({ token: null }), renewed);
    isRefusing = false;

    // As after its rows were restored from before the renewal: the server knows the first authority alone.
    const back = await server.join({ token: tokenOf(first) });
    assert.equal(server.asked.at(-1)?.body.certificate, made.certificate);
    assert.deepEqual([back.nodeId, back.key, back.authority.trim()], ["nod_a", made.key, first.certificatePem.trim()]);
    const secondIdentity = { pin: pinOf(second.certificatePem), certificate: cert, key: renewed.key };
    assert.deepEqual(back.former, [secondIdentity]);

    // Locked out, because it was away while its authority was renewed.
    signer.authority = third;
    const again = await server.join({ token: tokenOf(third) });
    assert.equal(server.asked.at(-1)?.body.certificate, back.certificate);
    assert.deepEqual([again.nodeId, again.authority.trim()], ["nod_a", third.certificatePem.trim()]);
    assert.deepEqual(
      again.former?.map(({ pin }) => pin),
      [first, second].map(({ certificatePem }) => pinOf(certificatePem)),
    );
    assert.deepEqual(await server.join({ token: null }), again);
  });

  test("believes the authority that the token names, and none that somebody in between adds to the answer", async () => {
    const evil = await CertificateAuthority.create({ commonName: "Evil", domain: LINK_DOMAIN });
    await using server = await openServer((signed) => {
      const { authority } = signed as { readonly authority: string };
      return { body: { ...signed, authority: `${authority}${evil.certificatePem}` } };
    });
    const { authority } = await server.join();
    assert.equal(authority.trim(), server.signer.authority.certificatePem.trim());
  });

  test("ends for good when the installation has forgotten the node, and says what to do", async () => {
    await using server = await openServer();
    await server.join();
    await rememberDismissal(server.directory, "2026-01-30T18:33:40.790Z");
    const told = {
      code: "INVALID_CONFIG",
      message:
        /has forgotten node nod_a on 2026-01-30T18:33:40\.790Z.*move .* away, or give another directory with --data, and join with a new token/,
    };
    await assert.rejects(server.join({ token: null }), told);
    await assert.rejects(server.join(), told);
    await writeFile(join(server.directory, "forgotten.json"), "");
    await assert.rejects(server.join({ token: null }), { message: /on an unknown day/ });
    assert.equal(server.asked.length, 1);
  });

  test("is refused for a certificate of another key, and for what is no answer", async () => {
    let answer: unknown = "no json";
    await using server = await openServer(() => ({ body: answer }));
    await assert.rejects(server.join(), { message: /is no Caisson server of this version/ });
    answer = { node_id: "../x", certificate: "", authority: "", region: null };
    await assert.rejects(server.join(), { message: /is no Caisson server of this version/ });
    const { cert: certificate } = await server.authority.issue([nodeName("nod_a")]);
    answer = { node_id: "nod_a", certificate, authority: server.authority.certificatePem, region: null };
    await assert.rejects(server.join(), { message: /signed for another key/ });
  });
});

test("the address of a node is what was given, with a port, or this machine's", () => {
  assert.deepEqual(ownAddress("node1.example.com:99"), {
    host: "node1.example.com",
    port: 99,
    text: "node1.example.com:99",
    listenHost: null,
  });
  assert.deepEqual(ownAddress("127.0.0.1"), {
    host: "127.0.0.1",
    port: 8485,
    text: "127.0.0.1:8485",
    listenHost: "127.0.0.1",
  });
  assert.deepEqual(ownAddress("::1"), {
    host: "::1",
    port: 8485,
    text: "[::1]:8485",
    listenHost: ownAddress("[::1]:5").listenHost,
  });
  for (const bad of ["", "a b", "x:99999", "http://x"])
    assert.throws(() => ownAddress(bad), { code: "INVALID_CONFIG" });
});
