import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { connect as connectHttp2, createSecureServer } from "node:http2";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { Readable } from "node:stream";
import { suite, type TestContext, test } from "node:test";
import { setImmediate as nextTurn } from "node:timers/promises";
import { type ConnectionOptions, connect as connectTls } from "node:tls";
import type { Node, NodeDescription, NodeEvent, SandboxSpec } from "@caisson/node";
import { type Installation, makeInstallation, openLink, partialNode, TEST_NODE_ID } from "../testing/index.ts";
import { CONTROL_NAME, type LinkCredentials, nodeName, TLS_OPTIONS } from "./credentials.ts";
import { readFrames } from "./frames.ts";
import { LinkedNode } from "./linked-node.ts";
import { NodeEvents } from "./node-events.ts";
import { serveNode } from "./serve-node.ts";

const DAY_MS = 86_400_000;

/** Tries to connect, and resolves to why that failed, or to null. */
async function problemOf(
  port: number,
  credentials: LinkCredentials | readonly LinkCredentials[],
  nodeId = TEST_NODE_ID,
): Promise<string | null> {
  const told = Promise.withResolvers<string | null>();
  await using _link = new LinkedNode({
    nodeId,
    address: async () => ({ host: "127.0.0.1", port }),
    credentials: async () => [credentials].flat(),
    term: 0,
    takeEvent: async () => {},
    onStopping: async () => {},
    onConnected: () => told.resolve(null),
    onLost: () => {},
    logger: { info() {}, warn: (details) => told.resolve(String((details as { reason?: string }).reason)) },
  });
  return await told.promise;
}

function serve(credentials: LinkCredentials, node: Node = partialNode({})) {
  const logger = { info() {}, warn() {} };
  return serveNode({ node, events: new NodeEvents(), credentials, host: "127.0.0.1", port: 0, logger });
}

suite("peers of a link", () => {
  test("a node is believed with its own certificate of this installation alone", async () => {
    const { control, node, issue } = await makeInstallation();
    const other = await makeInstallation();
    await using good = await serve(node);
    assert.equal(await problemOf(good.port, control), null);
    assert.match(String(await problemOf(good.port, control, "nod_another")), /another node answers/);
    await using stranger = await serve(other.node);
    assert.match(String(await problemOf(stranger.port, control)), /not one of this installation/);
    await using expired = await serve(await issue(nodeName(TEST_NODE_ID), { lifetimeMs: -DAY_MS / 2 }));
    assert.match(
      String(await problemOf(expired.port, control)),
      /has expired, or a clock is wrong.*caisson nodes tokens create/,
    );
    // What a server has is no node's.
    await using wrongUse = await serve(await issue(nodeName(TEST_NODE_ID), { usage: "client" }));
    assert.notEqual(await problemOf(wrongUse.port, control), null);
  });

  test("while the authority is renewed, a node that believes the old one or the new one alone is connected to all the same", async () => {
    const [old, next] = [await makeInstallation(), await makeInstallation()];
    const authority = `${next.control.authority}${old.control.authority}`;
    const controls = [old, next].map(({ control }) => ({ ...control, authority }));
    for (const { node } of [old, next]) {
      await using served = await serve(node);
      assert.equal(await problemOf(served.port, controls), null);
    }
    const other = await makeInstallation();
    await using stranger = await serve(other.node);
    assert.match(String(await problemOf(stranger.port, controls)), /not one of this installation/);
    // It is one of theirs, and believes neither.
    await using foreign = await serve({ ...next.node, authority: other.control.authority });
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
    await using link = new LinkedNode({
      nodeId: TEST_NODE_ID,
      async address() {
        tries += 1;
        if (tries === 1) throw new Error("the store does not say where it is");
        return address;
      },
      async credentials() {
        if (tries === 2) throw new Error("the store does not say who this server is");
        return [control];
      },
      term: 0,
      takeEvent: async () => {},
      onStopping: async () => {},
      onConnected: () => {},
      onLost: () => {},
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
    await using served = await serve(node);
    // Nobody listens there.
    let port: number | null = 0;
    // No try but the first comes by itself.
    t.mock.method(Math, "random", () => 1e6);
    const failed = Promise.withResolvers<void>();
    const connected = Promise.withResolvers<void>();
    const lost = Promise.withResolvers<unknown>();
    await using link: LinkedNode = new LinkedNode({
      nodeId: TEST_NODE_ID,
      async address() {
        if (port === null) throw new Error("the store does not say where it is");
        return { host: "127.0.0.1", port };
      },
      credentials: async () => [control],
      term: 0,
      takeEvent: async () => {},
      onStopping: async () => {},
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
    await using served = await serve(node);
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
    await using served = await serve(node);
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

suite("a peer that says farewell and stays", () => {
  test("a node that does is left and connected to again, and this process goes on", async () => {
    const { control, node } = await makeInstallation();
    const description = {
      runId: "run-1",
      regions: [],
      placeCount: 1,
      placeBound: null,
      labels: {},
      retriedWorkCount: 0,
    };
    const server = createSecureServer({ ...TLS_OPTIONS, cert: node.cert, key: node.key, allowHTTP1: false });
    const sockets = new Set<Socket>();
    for (const event of ["connection", "secureConnection"])
      server.on(event, (socket: Socket) => {
        socket.allowHalfOpen = true;
        sockets.add(socket.on("error", () => {}));
      });
    server.on("session", (session) => {
      session
        .on("error", () => {})
        .on("stream", (stream) => {
          stream.on("error", () => {}).once("close", () => session.goaway(0));
          stream.respond({ ":status": 200 });
          stream.end(JSON.stringify({ value: description }));
        });
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const { port } = server.address() as AddressInfo;
    const lost = Promise.withResolvers<void>();
    const again = Promise.withResolvers<void>();
    let count = 0;
    await using _link = new LinkedNode({
      nodeId: TEST_NODE_ID,
      address: async () => ({ host: "127.0.0.1", port }),
      credentials: async () => [control],
      term: 0,
      takeEvent: async () => {},
      onStopping: async () => {},
      onConnected: () => {
        count++;
        if (count === 2) again.resolve();
      },
      onLost: () => lost.resolve(),
      logger: { info() {}, warn() {} },
    });
    await lost.promise;
    await again.promise;
    for (const socket of sockets) socket.destroy();
    server.close();
  });

  test("a server that does keeps a node from ending no longer than one that is gone", async () => {
    const { control, node } = await makeInstallation();
    const served = await serve(node);
    const socket = connectTls({
      port: served.port,
      ...control,
      ca: control.authority,
      servername: nodeName(TEST_NODE_ID),
      ALPNProtocols: ["h2"],
      allowHalfOpen: true,
    } as ConnectionOptions);
    socket.on("error", () => {});
    // The preface, and empty settings.
    socket.write(
      Buffer.concat([Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), Buffer.from("000000040000000000", "hex")]),
    );
    // Its settings say that the session stands.
    await once(socket, "data");
    await served[Symbol.asyncDispose]();
    socket.destroy();
  });
});

suite("a node in foreign hands", () => {
  test("cannot give pieces that are out of order or beyond the end of its snapshot", async () => {
    const piecesOf = async (...offsets: number[]): Promise<number> => {
      const node = partialNode({
        exportDisk: async () => ({
          sizeBytes: 8192,
          fileSystem: { type: "ext4", uuid: "0".repeat(32), sizeBytes: 8192 },
          async *pieces() {
            for (const offset of offsets) yield { offset, bytes: Buffer.alloc(4096, 1) };
          },
          async [Symbol.asyncDispose]() {},
        }),
      });
      await using opened = await openLink(node);
      await using exported = await opened.link.exportDisk({ region: "ord", id: "snp_ord_a" });
      return (await Array.fromAsync(exported.pieces())).length;
    };
    assert.equal(await piecesOf(0, 4096), 2);
    for (const offsets of [[4096, 0], [0, 0], [8192], [2 ** 60]])
      await assert.rejects(piecesOf(...offsets), /pieces that are not of the snapshot/);
  });

  test("waits when it tells more than is taken", async () => {
    const events = new NodeEvents();
    let asked = 0;
    const all = Promise.withResolvers<void>();
    const release = Promise.withResolvers<void>();
    await using opened = await openLink(partialNode({ prepare: async () => {} }), {
      events,
      async takeEvent() {
        asked++;
        if (asked === 64) all.resolve();
        await release.promise;
      },
    });
    const told = Array.from({ length: 500 }, () => events.take({ kind: "background-error", work: "storage" }));
    await all.promise;
    await opened.link.prepare();
    assert.equal(asked, 64);
    release.resolve();
    await Promise.all(told);
    assert.equal(asked, 500);
  });

  test("cannot answer with anything but what the call gives, and its next answer is taken", async () => {
    const usage = { builtInBytes: 1, scratchBytes: 2 };
    let value: unknown;
    const answer = async () => value as never;
    await using opened = await openLink(
      partialNode({
        ownEnd: answer,
        deleteDisk: answer,
        getDisk: answer,
        ownPoolUsage: answer,
        listDisks: answer,
        listSandboxes: answer,
        placesOf: answer,
        prepare: answer,
        startSandbox: answer,
        stopSandbox: answer,
        exportDisk: async () =>
          ({ ...(value as object), async *pieces() {}, async [Symbol.asyncDispose]() {} }) as never,
      }),
    );
    const { link } = opened;
    const disk = { region: "ord", id: "snp_ord_a" };
    const place = { directory: "/pool", problem: null };
    const wrong: readonly [method: keyof Node, call: () => Promise<unknown>, values: readonly unknown[]][] = [
      ["ownEnd", () => link.ownEnd("sbx_ord_a"), ["any text", {}, 1, undefined]],
      ["deleteDisk", () => link.deleteDisk(disk), ["gone", null]],
      ["getDisk", () => link.getDisk(disk), [{ sizeBytes: -1 }, { sizeBytes: 1.5 }, { sizeBytes: 2 ** 60 }, {}]],
      ["ownPoolUsage", () => link.ownPoolUsage("ord"), [{ ...usage, scratchBytes: "2" }, [], null]],
      ["listDisks", () => link.listDisks("ord"), [["vol a"], ["x".repeat(101)], [null], {}]],
      ["listSandboxes", () => link.listSandboxes(), [[{ id: "sbx_ord_a", ownEnd: "bored" }]]],
      ["placesOf", () => link.placesOf("ord", ["vol_ord_a"]), [[], [place, place], [{ directory: "/pool" }]]],
      ["prepare", () => link.prepare(), ["done"]],
      [
        "startSandbox",
        () => link.startSandbox({ id: "sbx_ord_a", region: "ord" } as SandboxSpec, new AbortController().signal),
        [{}, { trace: [{ step: "a b", durationMs: 1 }] }, { trace: [{ step: "a", durationMs: -1 }] }],
      ],
      ["stopSandbox", () => link.stopSandbox("sbx_ord_a"), [{ damages: "one" }, { damages: Array(257).fill("x") }]],
      ["exportDisk", () => link.exportDisk(disk), [{ sizeBytes: 1, fileSystem: { type: "xfs" } }, { sizeBytes: -1 }]],
    ];
    for (const [method, call, values] of wrong)
      for (value of values)
        await assert.rejects(
          call(),
          {
            code: "NODE_UNAVAILABLE",
            message: new RegExp(`^Node nod_test gave an answer to ${method} that is not one`),
          },
          `${method}: ${JSON.stringify(value)}`,
        );
    value = usage;
    assert.deepEqual(await link.ownPoolUsage("ord"), usage);
  });

  test("cannot make an end fail by its text: it is cut, and what no store takes is replaced", async () => {
    const damages = ["a\u0000b\u001b[2Jc\nd", "x".repeat(10_000), `${"y".repeat(4095)}\u{1f600}`];
    await using opened = await openLink(
      partialNode({
        stopSandbox: async () => ({ damages }),
        async prepare() {
          throw Object.assign(new Error(`no\u0000${"z".repeat(5000)}`), { code: "any text", syscall: "\u0007" });
        },
      }),
    );
    assert.deepEqual(await opened.link.stopSandbox("sbx_ord_a"), {
      damages: ["a\ufffdb\ufffd[2Jc\nd", "x".repeat(4096), `${"y".repeat(4095)}\ufffd`],
    });
    const error = (await opened.link.prepare().catch((thrown: unknown) => thrown)) as NodeJS.ErrnoException;
    assert.equal(error.message, `no\ufffd${"z".repeat(4093)}`);
    assert.deepEqual([error.code, error.syscall], [undefined, undefined]);
  });

  test("cannot tell of anything but what happens on a node, and its next event is taken", async () => {
    const events = new NodeEvents();
    const node = partialNode({ describe: async () => describing("ord"), prepare: async () => {} });
    await using opened = await openLink(node, { events });
    for (const event of [
      { kind: "sandbox-exited", sandboxId: "sbx_ord_a", cause: "any text" },
      { kind: "sandbox-exited", sandboxId: "a\u0000b", cause: "exited" },
      { kind: "background-error", work: "any text" },
      { kind: "pool-full", region: "fra", volumeIds: [] },
      { kind: "pool-full", region: "ord", volumeIds: [7] },
      { kind: "unknown" },
    ] as unknown as NodeEvent[])
      await assert.rejects(events.take(event), /no event that the server knows/, JSON.stringify(event));
    await events.take({ kind: "pool-full", region: "ord", volumeIds: ["vol_ord_a"] });
    await events.take({ kind: "volume-damaged", volumeId: "vol_ord_a", message: "a\u0000b" });
    assert.deepEqual(opened.events, [
      { kind: "pool-full", region: "ord", volumeIds: ["vol_ord_a"] },
      { kind: "volume-damaged", volumeId: "vol_ord_a", message: "a\ufffdb" },
    ]);
    await opened.link.prepare();
  });

  test("cannot fill the memory with one answer, nor with crumbs of one", async () => {
    await using opened = await openLink(
      partialNode({
        ownEnd: async () => "x".repeat(2 * 2 ** 20) as never,
        stopSandbox: async () => ({ damages: Array(256).fill("x".repeat(10_000)) }),
        prepare: async () => {},
      }),
    );
    const { link } = opened;
    for (const call of [link.ownEnd("sbx_ord_a"), link.stopSandbox("sbx_ord_a")])
      await assert.rejects(call, { code: "NODE_UNAVAILABLE", message: /gave an answer to \w+ that is not one/ });
    await link.prepare();
    const crumbs = async function* (count: number): AsyncGenerator<Buffer, void> {
      const frame = Buffer.alloc(5 + count);
      frame.writeUInt32BE(count, 1);
      for (const byte of frame) yield Buffer.of(byte);
    };
    assert.equal((await Array.fromAsync(readFrames(Readable.from(crumbs(1000))))).length, 1);
    await assert.rejects(Array.fromAsync(readFrames(Readable.from(crumbs(50_000)))), /does not speak this protocol/);
  });

  test("that describes itself as nothing is not connected to", async () => {
    const { control, node } = await makeInstallation();
    for (const value of [null, { runId: 7, regions: [] }, { runId: "run-1" }, describing("a region of its own")]) {
      await using served = await serve(node, partialNode({ describe: describer(value) }));
      assert.match(String(await problemOf(served.port, control)), /describes itself/);
    }
  });
});

const describing = (region: string): NodeDescription => ({
  runId: "run-1",
  regions: [{ name: region, baseImages: [], hasReplicated: false }],
  placeCount: 1,
  placeBound: null,
  labels: {},
  retriedWorkCount: 0,
});

/** The node itself asks first, and gets what is right. */
function describer(value: unknown): Node["describe"] {
  let count = 0;
  return async () => {
    count++;
    if (count > 1) return value as NodeDescription;
    return { runId: "run-1", regions: [], placeCount: 1, placeBound: null, labels: {}, retriedWorkCount: 0 };
  };
}

suite("a server whose place another has taken", () => {
  test("is cut off, and its calls are refused from then on", async () => {
    const { control, node } = await makeInstallation();
    const release = Promise.withResolvers<void>();
    await using served = await serve(node, partialNode({ makeRoom: () => release.promise, prepare: async () => {} }));
    const open = async (term: number) => {
      const lost = Promise.withResolvers<void>();
      let connected = Promise.withResolvers<void>();
      const link = new LinkedNode({
        nodeId: TEST_NODE_ID,
        address: async () => ({ host: "127.0.0.1", port: served.port }),
        credentials: async () => [control],
        term,
        takeEvent: async () => {},
        onStopping: async () => {},
        onConnected: () => connected.resolve(),
        onLost() {
          connected = Promise.withResolvers();
          lost.resolve();
        },
        logger: { info() {}, warn() {} },
      });
      await connected.promise;
      return { link, lost: lost.promise, connected: () => connected.promise };
    };
    const first = await open(1);
    await using _first = first.link;
    first.link.begin("run-1", 1);
    const underWay = assert.rejects(first.link.makeRoom("ord"), { code: "NODE_UNAVAILABLE" });
    const second = await open(2);
    await using _second = second.link;
    await first.link.prepare();
    second.link.begin("run-1", 1);
    await second.link.prepare();
    await underWay;
    await first.lost;
    await first.connected();
    await assert.rejects(first.link.prepare(), {
      code: "NODE_UNAVAILABLE",
      message: /of term 1.*term 2 leads.*stand by/,
    });
    await second.link.prepare();
    release.resolve();
  });
});

suite("a node whose process is stopped or killed", () => {
  /** A node in another process, and a link to it. */
  async function openChild(t: TestContext, installation: Installation) {
    const child = spawn(process.execPath, [join(import.meta.dirname, "../testing/serve-child.ts")], {
      stdio: ["pipe", "pipe", "inherit"],
      env: { ...process.env, LINK_CREDENTIALS: JSON.stringify(installation.node) },
    });
    t.after(() => child.kill("SIGKILL"));
    const [line] = await once(createInterface(child.stdout), "line");
    return { child, port: Number(line) };
  }

  test("is noticed within 10 s; what was under way fails, and it goes on when the process does", async (t) => {
    const installation = await makeInstallation();
    const { child, port } = await openChild(t, installation);
    const connected = [Promise.withResolvers<string>(), Promise.withResolvers<string>()];
    const lost = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    const next = <T>(waiting: PromiseWithResolvers<T>[]) => waiting.shift()?.resolve ?? (() => {});
    const [up, upAgain] = connected;
    const [down, downAgain] = lost;
    await using link = new LinkedNode({
      nodeId: TEST_NODE_ID,
      address: async () => ({ host: "127.0.0.1", port }),
      credentials: async () => [installation.control],
      term: 0,
      takeEvent: async () => {},
      onStopping: async () => {},
      onConnected: ({ runId }) => next(connected)(runId),
      onLost: () => next(lost)(),
      logger: { info() {}, warn() {} },
    });
    link.begin((await up?.promise) ?? "", 1);
    const call = link.makeRoom("ord");
    const failed = assert.rejects(call, { code: "NODE_UNAVAILABLE", message: /lost before its answer to makeRoom/ });
    child.kill("SIGSTOP");
    await failed;
    await down?.promise;
    assert.notEqual(link.problem, null);
    assert.equal(link.connected, null);
    await assert.rejects(link.prepare(), {
      code: "NODE_UNAVAILABLE",
      message: /nod_test cannot be reached: there is no connection to it/,
    });
    child.kill("SIGCONT");
    assert.equal(await upAgain?.promise, "run-1");
    // The same run is still of the same generation.
    await link.prepare();
    const killed = assert.rejects(link.makeRoom("ord"), { code: "NODE_UNAVAILABLE" });
    child.kill("SIGKILL");
    await killed;
    await downAgain?.promise;
  });
});
