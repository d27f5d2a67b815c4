import assert from "node:assert/strict";
import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";
import { Duplex } from "node:stream";
import { suite, test } from "node:test";
import { CaissonError } from "@caisson/model";
import { openLink, partialNode } from "../testing/index.ts";

const MIB = 2 ** 20;

/** A server on loopback, and a node whose connections go to it. */
async function openTarget(onConnection: (socket: Socket) => void, options = {}) {
  const server = createServer({ allowHalfOpen: true, ...options }, (socket) => {
    socket.on("error", () => {});
    onConnection(socket);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as { port: number };
  const opened = await openLink(
    partialNode({
      openAgent: () => connect({ port, host: "127.0.0.1", allowHalfOpen: true }).on("error", () => {}),
      async connectInside(_id, asked) {
        if (asked !== 80) throw Object.assign(new Error("refused"), { code: "ECONNREFUSED" });
        const socket = connect({ port, host: "127.0.0.1", allowHalfOpen: true });
        await once(socket, "connect");
        return socket;
      },
    }),
  );
  return {
    link: opened.link,
    opened,
    async [Symbol.asyncDispose]() {
      await opened[Symbol.asyncDispose]();
      server.close();
    },
  };
}

const closing = (connection: Duplex): Promise<void> => new Promise((resolve) => connection.once("close", resolve));

suite("connections of a linked node", () => {
  test("each half ends by itself", async () => {
    await using target = await openTarget((socket) => {
      // It answers when it has heard all.
      const heard: Buffer[] = [];
      socket.on("data", (bytes) => heard.push(bytes)).on("end", () => socket.end(Buffer.concat(heard)));
    });
    for (const connection of [target.link.openAgent("a"), await target.link.connectInside("a", 80)]) {
      connection.write("one ");
      connection.end("two");
      const answer = await Array.fromAsync(connection as AsyncIterable<Buffer>);
      assert.equal(Buffer.concat(answer).toString(), "one two");
      if (!connection.closed) await once(connection, "close");
    }
  });

  test("the other side may end first, and still hears what comes", async () => {
    const heard = Promise.withResolvers<string>();
    await using target = await openTarget(async (socket) => {
      socket.end("bye");
      heard.resolve(Buffer.concat(await Array.fromAsync(socket as AsyncIterable<Buffer>)).toString());
    });
    const connection = await target.link.connectInside("a", 80);
    connection.resume();
    await once(connection, "end");
    connection.end("after that");
    assert.equal(await heard.promise, "after that");
  });

  test("refusals say why", async () => {
    await using opened = await openLink(
      partialNode({
        openAgent: () =>
          new Duplex({ read() {} }).on("error", () => {}).destroy(new CaissonError("SANDBOX_NOT_FOUND", "no such")),
        async connectInside() {
          throw Object.assign(new Error("refused"), { code: "ECONNREFUSED" });
        },
      }),
    );
    const agent = opened.link.openAgent("a");
    agent.write("GET /");
    const [error] = await once(agent, "error");
    assert.equal(error.code, "SANDBOX_NOT_FOUND");
    await assert.rejects(opened.link.connectInside("a", 80), { code: "ECONNREFUSED" });
  });

  test("a side that is gone takes the other with it", async () => {
    const sockets: Socket[] = [];
    const came = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    await using target = await openTarget((socket) => {
      socket.resume();
      came[sockets.push(socket) - 1]?.resolve();
    });
    const first = await target.link.connectInside("a", 80);
    await came[0]?.promise;
    const gone = once(sockets[0] as Socket, "end");
    first.destroy();
    await gone;
    const second = await target.link.connectInside("a", 80);
    await came[1]?.promise;
    const failed = once(second, "error");
    sockets[1]?.resetAndDestroy();
    const [error] = await failed;
    assert.equal(error.code, "NODE_UNAVAILABLE");
  });

  test("a connection that is lost ends what it carried, on both sides", async () => {
    const came = Promise.withResolvers<Socket>();
    await using target = await openTarget((socket) => {
      socket.resume();
      came.resolve(socket);
    });
    const connection = target.link.openAgent("a");
    const socket = await came.promise;
    const both = [closing(connection), once(socket, "end")];
    await target.opened.cut();
    await Promise.all(both);
    assert.equal((connection.errored as CaissonError | null)?.code, "NODE_UNAVAILABLE");
    const early = target.link.openAgent("a");
    await closing(early);
    assert.equal((early.errored as CaissonError | null)?.code, "NODE_UNAVAILABLE");
  });

  test("a slow reader holds up its own writer, and nobody else", async () => {
    let writtenBytes = 0;
    let readBytes = 0;
    const stalled = Promise.withResolvers<Socket>();
    await using target = await openTarget((socket) => {
      socket.pause();
      const write = (): void => {
        while (writtenBytes < 64 * MIB) {
          writtenBytes += 65_536;
          if (!socket.write(Buffer.alloc(65_536))) break;
        }
      };
      socket.on("drain", write);
      write();
      stalled.resolve(socket);
    });
    const connection = target.link.openAgent("a");
    const socket = await stalled.promise;
    // Until nothing moves any more, in either direction.
    const isStill = async (probe: () => number): Promise<void> => {
      for (let last = -1; last !== probe(); ) {
        last = probe();
        for (let call = 0; call < 30; call += 1) await target.link.describe();
      }
    };
    await isStill(() => writtenBytes);
    // The kernel's own buffers are a few MiB.
    assert.ok(writtenBytes < 16 * MIB, `${writtenBytes} bytes were taken for a reader that does not read`);
    let sentBytes = 0;
    while (sentBytes < 64 * MIB) {
      sentBytes += 65_536;
      if (connection.write(Buffer.alloc(65_536))) continue;
      if (await Promise.race([once(connection, "drain"), isStill(() => connection.writableLength).then(() => null)]))
        continue;
      break;
    }
    assert.ok(sentBytes < 16 * MIB, `${sentBytes} bytes were taken for an agent that does not read`);
    connection.on("data", (bytes: Buffer) => {
      readBytes += bytes.length;
    });
    socket.resume();
    while (readBytes < writtenBytes || writtenBytes < 64 * MIB) await once(connection, "data");
    connection.destroy();
  });

  test("a lot of bytes pass without being kept", async () => {
    const total = 128 * MIB;
    await using target = await openTarget((socket) => socket.pipe(socket));
    const connection = target.link.openAgent("a");
    let readBytes = 0;
    let peakBytes = 0;
    connection.on("data", (bytes: Buffer) => {
      readBytes += bytes.length;
      peakBytes = Math.max(peakBytes, process.memoryUsage().arrayBuffers);
    });
    const startBytes = process.memoryUsage().arrayBuffers;
    const chunk = Buffer.alloc(65_536, 7);
    for (let sent = 0; sent < total; sent += chunk.length)
      if (!connection.write(chunk)) await once(connection, "drain");
    connection.end();
    await once(connection, "end");
    assert.equal(readBytes, total);
    assert.ok(peakBytes - startBytes < 96 * MIB, `${(peakBytes - startBytes) / MIB} MiB were kept`);
  });
});
