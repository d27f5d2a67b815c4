import assert from "node:assert/strict";
import { once } from "node:events";
import { connect as connectHttp2 } from "node:http2";
import { type AddressInfo, connect, createServer } from "node:net";
import { suite, test } from "node:test";
import { setImmediate as nextTurn } from "node:timers/promises";
import { connect as connectTls } from "node:tls";
import {
  linkTo,
  makeInstallation,
  openLink,
  partialNode,
  problemOf,
  serveTestNode,
  TEST_NODE_ID,
} from "../testing/index.ts";
import { CONTROL_NAME, type LinkCredentials, nodeName } from "./credentials.ts";
import type { LinkedNode } from "./linked-node.ts";

const DAY_MS = 86_400_000;

suite("peers of a link", () => {
  test("a node is believed with its own certificate of this installation alone", async () => {
    const { control, node, issue } = await makeInstallation();
    const other = await makeInstallation();
    await using good = await serveTestNode(node);
    assert.equal(await problemOf(good.port, control), null);
    assert.match(String(await problemOf(good.port, control, "nod_another")), /another node answers/);
    await using stranger = await serveTestNode(other.node);
    assert.match(String(await problemOf(stranger.port, control)), /not one of this installation/);
    await using expired = await serveTestNode(await issue(nodeName(TEST_NODE_ID), { lifetimeMs: -DAY_MS / 2 }));
    assert.match(
      String(await problemOf(expired.port, control)),
      /has expired, or a clock is wrong.*caisson nodes tokens create/,
    );
    // What a server has is no node's.
    await using wrongUse = await serveTestNode(await issue(nodeName(TEST_NODE_ID), { usage: "client" }));
    assert.notEqual(await problemOf(wrongUse.port, control), null);
  });

  test("while the authority is renewed, a node that believes the old one or the new one alone is connected to all the same", async () => {
    const [old, next] = [await makeInstallation(), await makeInstallation()];
    const authority = `${next.control.authority}${old.control.authority}`;
    const controls = [old, next].map(({ control }) => ({ ...control, authority }));
    for (const { node } of [old, next]) {
      await using served = await serveTestNode(node);
      assert.equal(await problemOf(served.port, controls), null);
    }
    const other = await makeInstallation();
    await using stranger = await serveTestNode(other.node);
    assert.match(String(await problemOf(stranger.port, controls)), /not one of this installation/);
    // It is one of theirs, and believes neither.
    await using foreign = await serveTestNode({ ...next.node, authority: other.control.authority });
    assert.notEqual(await problemOf(foreign.port, controls), null);
    assert.equal(await problemOf(foreign.port, []), "this server has no certificate");
  });

  test("a try that ends before the network is used says nothing about the node, and one that fails says where", async () => {
    const { control } = await makeInstallation();
    // Nobody listens there, whatever else runs on this machine.
    const address = { host: "127.0.0.1", port: 0 };
    const problems: string[] = [];
    const failed = [Promise.withResolvers<void>(), Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    let tries = 0;
    await using link = linkTo(address.port, control, {
      async address() {
        tries += 1;
        if (tries === 1) throw new Error("the store does not say where it is");
        return address;
      },
      async credentials() {
        if (tries === 2) throw new Error("the store does not say who this server is");
        return [control];
      },
      logger: {
        info() {},
        warn(details) {
          failed[problems.length]?.resolve();
          problems.push(String((details as { reason?: string }).reason));
        },
      },
    });
    assert.equal(link.triedAddress, null);
    for (const index of [0, 1]) {
      await failed[index]?.promise;
      assert.equal(link.triedAddress, null);
    }
    await failed[2]?.promise;
    assert.deepEqual(link.triedAddress, address);
    assert.equal(link.problem, problems[2]);
  });

  test("a node is asked at once whether it is there, and connected to at once where it is; one that was lost was not tried yet", async (t) => {
    const { control, node } = await makeInstallation();
    await using served = await serveTestNode(node);
    // Nobody listens there.
    let port: number | null = 0;
    // No try but the first comes by itself.
    t.mock.method(Math, "random", () => 1e6);
    const failed = Promise.withResolvers<void>();
    const connected = Promise.withResolvers<void>();
    const lost = Promise.withResolvers<unknown>();
    await using link: LinkedNode = linkTo(0, control, {
      async address() {
        if (port === null) throw new Error("the store does not say where it is");
        return { host: "127.0.0.1", port };
      },
      onConnected: () => connected.resolve(),
      onLost: () => lost.resolve(link.triedAddress),
      logger: { info() {}, warn: () => failed.resolve() },
    });
    await failed.promise;
    assert.equal(await link.isThere(), false);
    port = null;
    await assert.rejects(link.isThere(), { code: "NODE_UNAVAILABLE", message: /the store does not say where it is/ });
    port = served.port;
    assert.equal(await link.isThere(), true);
    await connected.promise;
    assert.deepEqual(link.triedAddress, { host: "127.0.0.1", port });
    assert.equal(await link.isThere(), true);
    await served[Symbol.asyncDispose]();
    assert.equal(await lost.promise, null);
    assert.equal(await link.isThere(), false);
  });

  test("a node takes calls with a certificate of a server of this installation alone", async () => {
    const { control, node, issue } = await makeInstallation();
    const other = await makeInstallation();
    await using served = await serveTestNode(node);
    const refused = async (credentials: Partial<LinkCredentials>): Promise<void> =>
      assert.match(
        String(await problemOf(served.port, { ...control, ...credentials })),
        /does not accept|may not accept|ended the connection|connection to/,
      );
    await refused({ cert: node.cert, key: node.key });
    await refused(await issue(nodeName(TEST_NODE_ID), { usage: "client" }));
    await refused(await issue(CONTROL_NAME, { usage: "server" }));
    await refused(await issue(CONTROL_NAME, { usage: "client", lifetimeMs: -DAY_MS / 2 }));
    await refused({ cert: other.control.cert, key: other.control.key });
    const anonymous = connectTls({
      port: served.port,
      ca: control.authority,
      checkServerIdentity: () => undefined,
      ALPNProtocols: ["h2"],
    });
    const session = connectHttp2("https://x", { createConnection: () => anonymous });
    session.on("error", () => {});
    const stream = session.request({ ":method": "POST", ":path": "/describe" });
    let hasAnswer = false;
    stream
      .on("error", () => {})
      .on("response", () => {
        hasAnswer = true;
      });
    await new Promise((resolve) => stream.once("close", resolve));
    session.destroy();
    assert.equal(hasAnswer, false);
    const old = connectTls({
      port: served.port,
      ...control,
      ca: control.authority,
      maxVersion: "TLSv1.2",
      checkServerIdentity: () => undefined,
    });
    const [error] = await once(old, "error");
    assert.match(String(error.code), /PROTOCOL_VERSION/);
    assert.equal(await problemOf(served.port, control), null);
  });

  test("garbage, half a handshake and a crowd of strangers keep nobody out", async () => {
    const { control, node } = await makeInstallation();
    await using served = await serveTestNode(node);
    const crowd = Array.from({ length: 200 }, () =>
      connect(served.port, "127.0.0.1")
        .on("error", () => {})
        .resume(),
    );
    await Promise.all(crowd.map((socket) => once(socket, "connect")));
    crowd[198]?.write(Buffer.alloc(65_536, 0x16));
    crowd[199]?.write("GET / HTTP/1.1\r\n\r\n");
    assert.equal(await problemOf(served.port, control), null);
    // That was let in behind all of them, so the oldest had to go by then. Seeing it takes turns of this process, and not the 5 s after which all of them go.
    for (let turn = 0; turn < 100 && crowd[0]?.closed === false; turn += 1) await nextTurn();
    assert.deepEqual([crowd[0]?.closed, crowd[190]?.closed], [true, false]);
    for (const socket of crowd) socket.destroy();
  });

  test("a peer that speaks nonsense in a good connection gets an error, and others go on", async () => {
    const installation = await makeInstallation();
    await using opened = await openLink(partialNode({ prepare: async () => {} }), { installation });
    const socket = connectTls({
      port: opened.served.port,
      ...installation.control,
      ca: installation.control.authority,
      servername: nodeName(TEST_NODE_ID),
      ALPNProtocols: ["h2"],
    });
    const session = connectHttp2("https://x", { createConnection: () => socket });
    const statusOf = async (path: string, body: string, headers = {}): Promise<number> => {
      const known = { "caisson-run": "run-1", "caisson-generation": "1", "caisson-term": "0", ...headers };
      const stream = session.request({ ":method": "POST", ":path": path, ...known });
      stream.end(body);
      const [answer] = await once(stream, "response");
      stream.resume();
      return answer[":status"];
    };
    assert.equal(await statusOf("/prepare", "[]"), 200);
    assert.equal(await statusOf("/prepare", "no json"), 500);
    assert.equal(await statusOf("/prepare", "{}"), 500);
    assert.equal(await statusOf("/constructor", "[]"), 500);
    assert.equal(await statusOf("/startSandbox", "garbage, whose first bytes are a huge length"), 500);
    assert.equal(await statusOf("/importDisk", "\u0001\u00ff\u00ff\u00ff\u00ff"), 500);
    assert.equal(await statusOf("/connectInside", "", { "caisson-arguments": "%zz" }), 500);
    assert.equal(await statusOf("/prepare", "[]", { "caisson-generation": "none" }), 500);
    assert.equal(await statusOf("/prepare", "[]", { "caisson-term": "-1" }), 500);
    session.destroy();
    await opened.link.prepare();
  });

  test("an address where nothing or something else listens is named", async () => {
    const { control } = await makeInstallation();
    const server = createServer((socket) =>
      socket
        .on("error", () => {})
        .resume()
        .end("220 mail.example.com\r\n"),
    );
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const { port } = server.address() as AddressInfo;
    assert.match(String(await problemOf(port, control)), /^the connection to 127\.0\.0\.1:\d+ failed/);
    server.close();
    await once(server, "close");
    assert.match(String(await problemOf(port, control)), /nothing listens at 127\.0\.0\.1:\d+/);
  });
});
