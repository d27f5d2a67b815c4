import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import type { IncomingMessage } from "node:http";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Duplex } from "node:stream";
import { buffer } from "node:stream/consumers";
import { type TestContext, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { openLink, partialNode } from "@caisson/node-link/testing";
import { askAgent, type ForwardedConnection, joinAgent } from "./forward-upgrade.ts";
import { WaitingClient } from "./waiting-client.ts";

test("of a hostile agent's 101 the client gets what is about the WebSocket, and what comes behind it", async () => {
  const directory = await mkdtemp(join(tmpdir(), "caisson-forward-"));
  const socketPath = join(directory, "agent.sock");
  const answer = [
    "HTTP/1.1 101 Whatever\u0007",
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Accept: abc",
    "sec-websocket-accept: second",
    "x-deno-sandbox-id: sbx_other",
    "Set-Cookie: a=b",
    "Sec-WebSocket-Protocol: a\nSet-Cookie: c=d",
    "Sec-WebSocket-Extensions: a\rSet-Cookie: e=f",
    " Location: http://evil.test",
    "Strict-Transport-Security : max-age=1",
  ].join("\r\n");
  await using agent = createServer((socket) => socket.once("data", () => socket.write(`${answer}\r\n\r\nfirst frame`)));
  await using server = createServer();
  agent.listen(socketPath);
  server.listen(0, "127.0.0.1");
  await Promise.all([once(agent, "listening"), once(server, "listening")]);
  const accepted = once(server, "connection") as Promise<[Socket]>;
  const client = connect((server.address() as AddressInfo).port, "127.0.0.1");
  const [socket] = await accepted;
  const request = { rawHeaders: ["Host", "a"] } as unknown as IncomingMessage;
  const waiting = new WaitingClient(socket, Buffer.alloc(0));
  await forward(request, socket, waiting, connect(socketPath), { "x-deno-sandbox-id": "sbx_own" });
  let text = "";
  for await (const chunk of client) {
    text += String(chunk);
    if (text.endsWith("first frame")) break;
  }
  assert.deepEqual(text.split("\r\n"), [
    "HTTP/1.1 101 Switching Protocols",
    "x-deno-sandbox-id: sbx_own",
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Accept: abc",
    "",
    "first frame",
  ]);
  socket.destroy();
  await rm(directory, { recursive: true });
});

test("what an agent sends reaches a client whole, in order and at the client's pace, and the client's end follows it", async () => {
  const directory = await mkdtemp(join(tmpdir(), "caisson-forward-"));
  const socketPath = join(directory, "agent.sock");
  // Longer than what all buffers between the two hold.
  const sent = randomBytes(32 * 2 ** 20);
  let sentBytes = 0;
  await using agent = createServer((socket) =>
    socket.once("data", async () => {
      socket.write("HTTP/1.1 101 Switching Protocols\r\n\r\n");
      for (let offset = 0; offset < sent.length; offset += 50_000) {
        const chunk = sent.subarray(offset, offset + 50_000);
        await new Promise((resolve) => socket.write(chunk, resolve));
        sentBytes += chunk.length;
      }
      socket.end();
    }),
  );
  await using server = createServer({ allowHalfOpen: true });
  agent.listen(socketPath);
  server.listen(0, "127.0.0.1");
  await Promise.all([once(agent, "listening"), once(server, "listening")]);
  const accepted = once(server, "connection") as Promise<[Socket]>;
  const client = connect((server.address() as AddressInfo).port, "127.0.0.1");
  const [socket] = await accepted;
  const request = { rawHeaders: ["Host", "a"] } as unknown as IncomingMessage;
  await forward(request, socket, new WaitingClient(socket, Buffer.alloc(0)), connect(socketPath));
  // The client reads nothing yet, so at some time the agent cannot send on.
  await untilStill(() => sentBytes);
  assert.ok(sentBytes < sent.length, "nothing held the agent back");
  const received = await buffer(client);
  const head = received.indexOf("\r\n\r\n") + 4;
  assert.ok(received.subarray(head).equals(sent));
  await rm(directory, { recursive: true });
});

/** A client whose upgrade was handed to an agent that switches protocols; `head` is what the client has sent ahead, of which Node has read a part. */
async function forwarded(context: TestContext, sentAhead = "") {
  const directory = await mkdtemp(join(tmpdir(), "caisson-forward-"));
  const socketPath = join(directory, "agent.sock");
  const agents = createServer({ allowHalfOpen: true, pauseOnConnect: true });
  const servers = createServer({ allowHalfOpen: true });
  context.after(async () => {
    agents.close();
    servers.close();
    await rm(directory, { recursive: true });
  });
  agents.listen(socketPath);
  servers.listen(0, "127.0.0.1");
  await Promise.all([once(agents, "listening"), once(servers, "listening")]);
  const accepted = once(servers, "connection") as Promise<[Socket]>;
  const client = connect({ port: (servers.address() as AddressInfo).port, host: "127.0.0.1", allowHalfOpen: true });
  client.write(sentAhead);
  const [socket] = await accepted;
  socket.on("error", () => undefined);
  const connected = once(agents, "connection") as Promise<[Socket]>;
  const request = { rawHeaders: ["Host", "a"] } as unknown as IncomingMessage;
  const waiting = new WaitingClient(socket, Buffer.alloc(0));
  const forwarding = forward(request, socket, waiting, connect(socketPath));
  const [agent] = await connected;
  await readUntil(agent, "\r\n\r\n");
  agent.write("HTTP/1.1 101 Switching Protocols\r\n\r\n");
  return { client, agent, socket, connection: await forwarding };
}

async function forward(
  request: IncomingMessage,
  socket: Duplex,
  client: WaitingClient,
  agent: Duplex,
  addedHeaders: Readonly<Record<string, string>> = {},
): Promise<ForwardedConnection> {
  const willing = await askAgent(request, agent, { answerTimeoutMs: 10_000, signal: client.signal });
  return joinAgent(socket, client, willing, addedHeaders);
}

/** Waits until a number stands still: what it counts passes no more. */
async function untilStill(read: () => number): Promise<void> {
  for (let before = Number.NaN; read() !== before; ) {
    before = read();
    await delay(200);
  }
}

async function readUntil(socket: Socket, end: string): Promise<void> {
  let text = "";
  while (!text.endsWith(end)) {
    const byte = socket.read(1) as Buffer | null;
    if (byte === null) await once(socket, "readable");
    else text += String(byte);
  }
}

test("what a client sends reaches the agent whole, in order and at the agent's pace, and the agent learns of its end", async (context) => {
  const { client, agent, socket } = await forwarded(context, "sent ahead");
  const sent = randomBytes(32 * 2 ** 20);
  let sentBytes = 0;
  const sending = (async () => {
    for (let offset = 0; offset < sent.length; offset += 50_000) {
      const chunk = sent.subarray(offset, offset + 50_000);
      await new Promise((resolve) => client.write(chunk, resolve));
      sentBytes += chunk.length;
    }
    client.end();
  })();
  // The agent reads nothing yet, so at some time the client cannot send on.
  await untilStill(() => sentBytes);
  assert.ok(sentBytes < sent.length, "nothing held the client back");
  const received = await buffer(agent);
  await sending;
  assert.ok(received.equals(Buffer.concat([Buffer.from("sent ahead"), sent])));
  // The agent's half is open still, and so is the client's connection until it ends too.
  assert.equal(socket.destroyed, false);
  const closed = once(socket, "close");
  agent.end("last");
  await readUntil(client, "\r\n\r\n");
  assert.equal(String(await buffer(client)), "last");
  await closed;
});

test("a client that resets its connection with nothing but the 101 sent on it has no answer, and one that sent something has", async (context) => {
  for (const [sent, isAnswered] of [
    ["", false],
    ["frame", true],
  ] as const) {
    const { client, agent, connection } = await forwarded(context);
    if (sent !== "") {
      client.write(sent);
      await readUntil(agent, sent);
    }
    client.resetAndDestroy();
    assert.deepEqual(await connection.closed, { isAnswered });
    agent.destroy();
  }
});

test("when the agent goes while it holds a client back, the client's connection ends although the client goes on sending", async (context) => {
  const { client, agent, socket } = await forwarded(context);
  client.on("error", () => undefined).resume();
  client.write(Buffer.alloc(32 * 2 ** 20));
  await untilStill(() => client.writableLength);
  assert.ok(client.writableLength > 0, "nothing held the client back");
  agent.destroy();
  if (!socket.destroyed) await once(socket, "close");
  client.destroy();
});

test("a client and an agent on another machine are joined as here: whole, at the pace of both, each half by itself", async () => {
  const agents = createServer({ allowHalfOpen: true });
  const servers = createServer({ allowHalfOpen: true });
  agents.listen(0, "127.0.0.1");
  servers.listen(0, "127.0.0.1");
  await Promise.all([once(agents, "listening"), once(servers, "listening")]);
  const { port } = agents.address() as AddressInfo;
  const openAgent = () => connect({ port, host: "127.0.0.1", allowHalfOpen: true }).on("error", () => {});
  await using opened = await openLink(partialNode({ openAgent }));
  const accepted = once(servers, "connection") as Promise<[Socket]>;
  const client = connect({ port: (servers.address() as AddressInfo).port, host: "127.0.0.1", allowHalfOpen: true });
  client.write("sent ahead");
  const [socket] = await accepted;
  const connected = once(agents, "connection") as Promise<[Socket]>;
  const request = { rawHeaders: ["Host", "a"] } as unknown as IncomingMessage;
  const waiting = new WaitingClient(socket, Buffer.alloc(0));
  const forwarding = forward(request, socket, waiting, opened.link.openAgent("sbx_ord_a"));
  const [agent] = await connected;
  await readUntil(agent, "\r\n\r\n");
  agent.write("HTTP/1.1 101 Switching Protocols\r\n\r\n");
  await forwarding;
  const sent = randomBytes(16 * 2 ** 20);
  client.end(sent);
  // The agent reads nothing until nothing passes any more, and answers when it has read all.
  await untilStill(() => client.writableLength);
  const received = await buffer(agent);
  assert.ok(received.equals(Buffer.concat([Buffer.from("sent ahead"), sent])));
  agent.end(sent);
  await readUntil(client, "\r\n\r\n");
  assert.ok((await buffer(client)).equals(sent));
  agents.close();
  servers.close();
});
