import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buffer } from "node:stream/consumers";
import { suite, type TestContext, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { Network } from "./network.ts";

const KIBIBYTE = 1024;

suite("a piece of network", () => {
  /** A server that does that with each connection, and a network before it. */
  async function open(t: TestContext, onConnection: (socket: net.Socket) => void) {
    const directory = await mkdtemp(join(tmpdir(), "caisson-network-"));
    const [front, back] = [join(directory, "front"), join(directory, "back")];
    const server = net.createServer(onConnection).listen(back);
    await once(server, "listening");
    const network = await Network.between(front, back);
    t.after(async () => {
      await network[Symbol.asyncDispose]();
      server.close();
      await rm(directory, { recursive: true });
    });
    return { network, connect: () => net.connect(front) };
  }

  test("lets all arrive that a side sent before it ended, also where the other one reads late", async (t) => {
    // About as much as the kernel keeps between the two, so that a rest of some of them waits in the network.
    const sizes = Array.from({ length: 48 }, (_, index) => (index + 1) * 8 * KIBIBYTE);
    const waiting = [...sizes];
    let ended = Promise.withResolvers<void>();
    const { connect } = await open(t, (socket) => {
      socket.once("close", () => ended.resolve()).resume();
      socket.end(Buffer.alloc(waiting.shift() ?? 0));
    });
    const received: number[] = [];
    for (const _ of sizes) {
      ended = Promise.withResolvers();
      const client = connect().pause();
      // What does not fit ends when it is read.
      await Promise.race([ended.promise, delay(20)]);
      received.push((await buffer(client)).length);
    }
    assert.deepEqual(received, sizes);
  });

  test("ends connections at once where it refuses them, and holds them where it is silent", async (t) => {
    const { network, connect } = await open(t, (socket) => void socket.on("error", () => {}).pipe(socket));
    const client = connect();
    client.write("a");
    assert.equal(String((await once(client, "data"))[0]), "a");
    network.cut("silent");
    client.write("b");
    network.heal();
    assert.equal(String((await once(client, "data"))[0]), "b");
    network.cut("refusing");
    await once(client, "close");
    const refused = connect().on("error", () => {});
    await once(refused, "close");
  });
});
