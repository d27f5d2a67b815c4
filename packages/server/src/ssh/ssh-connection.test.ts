import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { connect, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { setImmediate } from "node:timers/promises";
import { testTimeoutMs } from "@caisson/linux/testing";
import pino from "pino";
import ssh2, { type ClientChannel } from "ssh2";
import type { AppContext } from "../app/context.ts";
import { openHostKey } from "./host-key.ts";
import { SshConnection } from "./ssh-connection.ts";
import { UnreadBytes } from "./unread-bytes.ts";

/** The part of the library's client that sends what a well-behaved one would not. */
interface Insides {
  readonly _protocol: {
    session(id: number, window: number, size: number): void;
    exec(id: number, command: string, wantReply: boolean): void;
  };
  readonly _sock: Socket;
}

test("what a client still sends after its connection was ended starts nothing", {
  timeout: testTimeoutMs(120_000),
}, async (t) => {
  const directory = await mkdtemp(join(tmpdir(), "caisson-ssh-connection-"));
  t.after(() => rm(directory, { recursive: true }));
  const agent = createServer((socket) => socket.on("error", () => {}).resume());
  agent.listen(join(directory, "agent.sock"));
  t.after(() => agent.close());
  let starts = 0;
  const node = {
    openAgent() {
      starts += 1;
      return connect(join(directory, "agent.sock"));
    },
  };
  const app = {
    logger: pino({ level: "silent" }),
    nodes: { find: () => ({ node }) },
    ssh: { find: () => ({ sandbox: { record: { id: "sbx_ord_x" } }, tokenId: "tok" }), open: () => () => {} },
    connections: { add: () => () => {} },
  } as unknown as AppContext;
  const { privateKey } = await openHostKey(directory);
  const server = createServer().listen(0, "127.0.0.1");
  t.after(() => server.close());
  const accepted = once(server, "connection") as Promise<[Socket]>;
  await once(server, "listening");

  const client = new ssh2.Client().on("error", () => {});
  const { port } = server.address() as { port: number };
  client.connect({ host: "127.0.0.1", port, username: "any", hostVerifier: () => true });
  const [socket] = await accepted;
  socket.on("error", () => {});
  const settings = { hostKey: privateKey, unread: new UnreadBytes(), onAdmitted: () => {} };
  const connection = new SshConnection(app, socket, settings);
  await once(client, "ready");
  await new Promise<ClientChannel>((resolve, reject) =>
    client.exec("cat", (error, channel) => (error ? reject(error) : resolve(channel))),
  );
  assert.equal(starts, 1);

  const { _protocol: protocol, _sock: own } = client as unknown as Insides;
  // What the server says from here on stays unread, so that the library does not end with it.
  own.pause();
  const closed = new Promise<void>((resolve) => socket.once("close", () => resolve()));
  const before = socket.bytesRead;
  t.mock.timers.enable({ apis: ["setTimeout"] });
  connection.end();
  protocol.session(1, 2 ** 20, 2 ** 15);
  // The server numbers channels from 0 on.
  protocol.exec(1, "true", false);
  while (socket.bytesRead === before) await setImmediate();
  t.mock.timers.tick(60_000);
  await closed;
  assert.equal(starts, 1);
  own.destroy();
});
