import assert from "node:assert/strict";
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { test } from "node:test";
import { protocolOf, readProtocol, type WireProtocol } from "./first-bytes.ts";

const CASES: readonly (readonly [bytes: string, protocol: WireProtocol | null])[] = [
  ["\x16\x03\x01\x02\x00\x01", "tls"],
  ["GET / HTTP/1.1\r\n", "http"],
  ["\r\n\r\n \tGET / HTTP/1.0\n", "http"],
  ["get / http/1.1\r\n", "http"],
  ["PRI * HTTP/2.0\r\n", "http"],
  ["M-SEARCH * HTTP/1.1\r\n", "http"],
  ["GET / HTTP/", "http"],
  ["GET /", "http"],
  ["GET x", null],
  ["GET /x\r\nHost: forbidden.test\r\n\r\n", "http"],
  ["get\t/x\n", "http"],
  ["GET\x0b/x\r\n", "http"],
  ["GET http://forbidden.test/\r\n", "http"],
  ["SOURCE /x ICE/1.0\r\n", "http"],
  ["OPTIONS /x RTSP/1.0\r\n", "http"],
  ["OPTIONS * RTSP/1.0\r\n", "http"],
  ["REGISTER sip:registrar.test SIP/2.0\r\n", "other"],
  ["get key\r\n", "other"],
  ["\r\n", null],
  ["SSH-2.0-OpenSSH_9.2\r\n", "ssh"],
  ["SSH", null],
  ["SSHX /x\r\n", "http"],
  ["*1\r\n$4\r\nPING\r\n", "other"],
  ["\x00\x00\x00\x08\x04\xd2\x16\x2f", "other"],
  ["a\x00\x00", "other"],
  ["GET\x0b/ HTTP/1.1\r\n", "http"],
  ["GET\r/ HTTP/1.1\r\n", "http"],
  ["GET \x01", null],
  ["GET /\x01 HTTP/1.1\r\n", "http"],
  ["\r\n".repeat(8 * 1024), "http"],
  [`GET /${"x".repeat(16 * 1024)}`, "http"],
  ["NICK somebody\r\n", "other"],
  ["*1\r", null],
  ["x", null],
];

test("the first bytes tell the protocol, and too few of them tell nothing", () => {
  for (const [bytes, protocol] of CASES) {
    assert.equal(protocolOf(Buffer.from(bytes, "latin1")), protocol, JSON.stringify(bytes.slice(0, 40)));
  }
});

async function withPair(work: (client: Socket, server: Socket) => Promise<void>): Promise<void> {
  const listener = createServer({ pauseOnConnect: true }).listen(0, "127.0.0.1");
  await once(listener, "listening");
  const client = connect((listener.address() as AddressInfo).port, "127.0.0.1");
  const [server] = (await once(listener, "connection")) as [Socket];
  try {
    await work(client, server);
  } finally {
    client.destroy();
    server.destroy();
    listener.close();
  }
}

test("bytes that come one by one are judged together and are all there afterwards", async () => {
  await withPair(async (client, server) => {
    const protocol = readProtocol(server, new AbortController().signal);
    client.setNoDelay(true);
    for (const byte of "GET / HTTP/1.1\r\n") {
      client.write(byte);
      await new Promise(setImmediate);
    }
    assert.equal(await protocol, "http");
    client.end();
    let text = "";
    for await (const chunk of server) text += String(chunk);
    assert.equal(text, "GET / HTTP/1.1\r\n");
  });
});

test("a signal ends the wait and keeps what has come", async () => {
  await withPair(async (client, server) => {
    const controller = new AbortController();
    const protocol = readProtocol(server, controller.signal);
    client.write("GET");
    await once(server, "readable");
    controller.abort();
    assert.equal(await protocol, null);
    client.end();
    let text = "";
    for await (const chunk of server) text += String(chunk);
    assert.equal(text, "GET");
  });
});
