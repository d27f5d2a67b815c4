import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createSecureServer } from "node:http2";
import type { AddressInfo, Socket } from "node:net";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { suite, type TestContext, test } from "node:test";
import { type ConnectionOptions, connect as connectTls } from "node:tls";
import {
  type Installation,
  linkTo,
  makeInstallation,
  partialNode,
  serveTestNode,
  TEST_DESCRIPTION,
  TEST_NODE_ID,
} from "../testing/index.ts";
import { nodeName, TLS_OPTIONS } from "./credentials.ts";

suite("a peer that says farewell and stays", () => {
  test("a node that does is left and connected to again, and this process goes on", async () => {
    const { control, node } = await makeInstallation();
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
          stream.end(JSON.stringify({ value: TEST_DESCRIPTION }));
        });
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const { port } = server.address() as AddressInfo;
    const lost = Promise.withResolvers<void>();
    const again = Promise.withResolvers<void>();
    let count = 0;
    await using _link = linkTo(port, control, {
      onConnected: () => {
        count++;
        if (count === 2) again.resolve();
      },
      onLost: () => lost.resolve(),
    });
    await lost.promise;
    await again.promise;
    for (const socket of sockets) socket.destroy();
    server.close();
  });

  test("a server that does keeps a node from ending no longer than one that is gone", async () => {
    const { control, node } = await makeInstallation();
    const served = await serveTestNode(node);
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

suite("a server whose place another has taken", () => {
  test("is cut off, and its calls are refused from then on", async () => {
    const { control, node } = await makeInstallation();
    const release = Promise.withResolvers<void>();
    await using served = await serveTestNode(
      node,
      partialNode({ makeRoom: () => release.promise, prepare: async () => {} }),
    );
    const open = async (term: number) => {
      const lost = Promise.withResolvers<void>();
      let connected = Promise.withResolvers<void>();
      const link = linkTo(served.port, control, {
        term,
        onConnected: () => connected.resolve(),
        onLost() {
          connected = Promise.withResolvers();
          lost.resolve();
        },
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
    await using link = linkTo(port, installation.control, {
      onConnected: ({ runId }) => next(connected)(runId),
      onLost: () => next(lost)(),
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
