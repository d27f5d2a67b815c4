import assert from "node:assert/strict";
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import { text } from "node:stream/consumers";
import { afterEach, suite, test } from "node:test";
import { setImmediate as nextTurn } from "node:timers/promises";
import { testTimeoutMs } from "@caisson/linux/testing";
import { Relay } from "./relay.ts";

const HOST = "127.0.0.1";

suite("a relay", { timeout: testTimeoutMs(30_000) }, () => {
  const ending: Disposable[] = [];
  afterEach(() => {
    for (const one of ending.splice(0)) one[Symbol.dispose]();
  });

  const startRelay = async (): Promise<Relay> => {
    const relay = await Relay.listen({ host: HOST, port: 0 });
    ending.push(relay);
    return relay;
  };
  /** Says its name, and what it was sent when that has ended. */
  const startEcho = async (name: string) => {
    const sockets = new Set<Socket>();
    const server: Server = createServer({ allowHalfOpen: true }, (socket) => {
      sockets.add(socket);
      socket.on("error", () => {});
      socket.write(`${name}:`);
      void text(socket).then(
        (sent) => socket.end(sent),
        () => {},
      );
    });
    server.listen(0, HOST);
    await once(server, "listening");
    ending.push({
      [Symbol.dispose]() {
        server.close();
        for (const socket of sockets) socket.destroy();
      },
    });
    return { host: HOST, port: (server.address() as AddressInfo).port };
  };
  const connectTo = ({ port }: Relay): Socket => {
    const socket = connect({ host: HOST, port, allowHalfOpen: true }).on("error", () => {});
    ending.push({ [Symbol.dispose]: () => socket.destroy() });
    return socket;
  };

  test("passes each byte of both directions, of which each ends by itself", async () => {
    const [relay, one] = [await startRelay(), await startEcho("one")];
    relay.setTarget(one);
    const client = connectTo(relay);
    const sent = "x".repeat(5_000_000);
    client.end(sent);
    assert.equal(await text(client), `one:${sent}`);
  });

  test("keeps connections waiting until it knows a target", async () => {
    const [relay, one] = [await startRelay(), await startEcho("one")];
    const client = connectTo(relay);
    client.end("early");
    await once(client, "connect");
    relay.setTarget(one);
    assert.equal(await text(client), "one:early");
  });

  test("ends connections to a target that is another one now, or none, and keeps those to the same", async () => {
    const [relay, one, two] = [await startRelay(), await startEcho("one"), await startEcho("two")];
    relay.setTarget(one);
    const kept = connectTo(relay);
    assert.equal(String(await once(kept, "data")), "one:");
    relay.setTarget({ ...one });
    kept.end("kept");
    assert.equal(await text(kept), "kept");
    for (const next of [two, null]) {
      relay.setTarget(one);
      const client = connectTo(relay);
      const closed = once(client, "close");
      assert.equal(String(await once(client, "data")), "one:");
      relay.setTarget(next);
      client.end();
      await closed;
    }
    relay.setTarget(two);
    const client = connectTo(relay);
    client.end("new");
    assert.equal(await text(client), "two:new");
  });

  test("does not relay to itself without end", async () => {
    const relay = await startRelay();
    relay.setTarget({ host: HOST, port: relay.port });
    const client = connectTo(relay);
    const closed = once(client, "close");
    client.resume();
    client.on("end", () => client.end());
    await closed;
    const count = () => process.getActiveResourcesInfo().filter((name) => name === "TCPSocketWrap").length;
    assert.ok(count() < 6, `${count()} connections`);
  });

  test("leaves its address when it is released, and what waits goes to the next target", async () => {
    const [relay, one] = [await startRelay(), await startEcho("one")];
    const waiting = connectTo(relay);
    waiting.end("waited");
    await once(waiting, "connect");
    // The other end of it is accepted within a turn.
    for (let turn = 0; turn < 3; turn += 1) await nextTurn();
    const { port } = relay;
    relay.release();
    const [error] = await once(connect(port, HOST), "error");
    assert.equal(error.code, "ECONNREFUSED");
    relay.setTarget(one);
    assert.equal(await text(waiting), "one:waited");
  });
});
