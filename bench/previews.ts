import { spawn } from "node:child_process";
import { once } from "node:events";
import { type IncomingMessage, Agent as PlainAgent, request as plainRequest } from "node:http";
import { Agent, type RequestOptions, request } from "node:https";
import { Sandbox } from "@deno/sandbox";
import { PreviewClient } from "../tests/support/preview-client.ts";
import { TestServer } from "../tests/support/server.ts";

/**
 * What a preview adds to a request, and how much a stream through it carries: node bench/previews.ts, in scripts/isolate.sh. Direct is the same
 * server on this host over a kept connection in the clear; through a preview the client's connection is kept, too.
 */
const ROUNDS = 1_000;
const STREAM_BYTES = 2 ** 31;

const SERVER = `
const http = require("node:http");
const piece = Buffer.alloc(262144, 97);
http.createServer((request, response) => {
  if (request.url !== "/stream") return response.end("ok");
  let left = ${STREAM_BYTES};
  const more = () => { while (left > 0) { left -= piece.length; if (!response.write(piece)) return response.once("drain", more); } response.end(); };
  more();
}).listen(8000, "127.0.0.1", () => console.log("listening"));
`;

const DIRECT = `
const server = require("node:http").createServer((_request, response) => response.end("ok"));
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
`;

async function read(outgoing: ReturnType<typeof request>): Promise<number> {
  outgoing.end();
  const [response] = (await once(outgoing, "response")) as [IncomingMessage];
  let bytes = 0;
  response.on("data", (chunk: Buffer) => {
    bytes += chunk.length;
  });
  await once(response, "end");
  return bytes;
}

async function latencies(send: () => Promise<number>): Promise<readonly number[]> {
  const times: number[] = [];
  for (let round = 0; round < ROUNDS + 100; round += 1) {
    const startMs = performance.now();
    await send();
    if (round >= 100) times.push(performance.now() - startMs);
  }
  return times.sort((one, other) => one - other);
}

const at = (times: readonly number[], share: number): string =>
  (times[Math.floor(times.length * share)] ?? 0).toFixed(3);

await using server = await TestServer.start();
Object.assign(process.env, server.clientEnv());
const preview = await PreviewClient.of(server.dataDirectory);
const sandbox = await Sandbox.create({ memory: "2GiB" });
const child = await sandbox.spawn("node", { args: ["-e", SERVER], stdout: "piped" });
await child.stdout?.getReader().read();
const url = await sandbox.exposeHttp({ port: 8000 });
const secureAgent = new Agent({ keepAlive: true });
const here: RequestOptions = {
  ca: preview.ca,
  lookup: (_host, options, done) =>
    options.all === true ? done(null, [{ address: "127.0.0.1", family: 4 }]) : done(null, "127.0.0.1", 4),
  agent: secureAgent,
};

// A process of its own, as the server inside is.
const direct = spawn(process.execPath, ["-e", DIRECT], { stdio: ["ignore", "pipe", "inherit"] });
const [port] = (await once(direct.stdout, "data")) as [Buffer];
const plainAgent = new PlainAgent({ keepAlive: true });
const plainUrl = `http://127.0.0.1:${String(port).trim()}/`;
const directTimes = await latencies(() => read(plainRequest(plainUrl, { agent: plainAgent })));
const previewTimes = await latencies(() => read(request(url, here)));
console.log(`direct:  p50 ${at(directTimes, 0.5)} ms, p99 ${at(directTimes, 0.99)} ms`);
console.log(`preview: p50 ${at(previewTimes, 0.5)} ms, p99 ${at(previewTimes, 0.99)} ms`);

const startMs = performance.now();
const bytes = await read(request(`${url}/stream`, here));
console.log(`stream:  ${(bytes / 1e6 / ((performance.now() - startMs) / 1000)).toFixed(0)} MB/s`);
plainAgent.destroy();
direct.kill();
secureAgent.destroy();
await sandbox.kill();
