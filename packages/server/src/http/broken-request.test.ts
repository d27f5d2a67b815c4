import assert from "node:assert/strict";
import { once } from "node:events";
import { type AddressInfo, connect } from "node:net";
import { text } from "node:stream/consumers";
import { after, before, suite, test } from "node:test";
import pino from "pino";
import type { AppContext } from "../app/context.ts";
import { MAX_HEADER_BYTES } from "../connections/http-limits.ts";
import { Metrics } from "../metrics/metrics.ts";
import type { Http } from "./request.ts";
import { buildHttp } from "./server.ts";

suite("broken request", () => {
  let http: Http;
  before(async () => {
    // None of these requests gets as far as a use case.
    http = await buildHttp({ logger: pino({ level: "silent" }), metrics: new Metrics() } as AppContext);
    await http.listen({ host: "127.0.0.1", port: 0 });
  });
  after(() => http.close());

  /** Sends the bytes and returns the answer. */
  const answer = async (request: Buffer | string): Promise<string> => {
    const socket = connect((http.server.address() as AddressInfo).port, "127.0.0.1");
    // A server that has refused reads no further, so what is still on its way may meet a closed connection.
    socket.on("error", () => {});
    await once(socket, "connect");
    socket.write(request);
    return text(socket).catch(() => "");
  };
  const withHeader = (bytes: number) =>
    `GET /api/v2/volumes HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX-Deno-Sandbox-Config: ${"x".repeat(bytes)}\r\n\r\n`;

  test("TLS on the HTTP port is told what to use instead", async () => {
    const sent = await answer(Buffer.concat([Buffer.from([0x16, 3, 1, 2, 0]), Buffer.alloc(512, 1)]));
    assert.match(sent, /^HTTP\/1\.1 400 INVALID_REQUEST\r\n/);
    assert.match(sent, /"code":"INVALID_REQUEST","message":"This port speaks HTTP.*http:\/\//);
  });

  test("a create may carry more than a mebibyte of options, and beyond the limit is told it", async () => {
    assert.match(await answer(withHeader(1.5 * 2 ** 20)), /^HTTP\/1\.1 401 /);
    const sent = await answer(withHeader(MAX_HEADER_BYTES));
    assert.match(sent, /^HTTP\/1\.1 431 PAYLOAD_TOO_LARGE\r\n/);
    assert.match(sent, /may have 2097152 bytes/);
  });

  test("what is no HTTP at all is told so", async () => {
    assert.match(await answer("nonsense\r\n\r\n"), /"INVALID_REQUEST","message":"The request is not valid HTTP"/);
  });
});
