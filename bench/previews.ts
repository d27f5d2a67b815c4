import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { type IncomingMessage, Agent as PlainAgent, request as plainRequest } from "node:http";
import { Agent, type RequestOptions, request } from "node:https";
import { CertificateAuthority } from "@caisson/certificates";
import { Sandbox } from "@deno/sandbox";
import { PreviewClient } from "../tests/support/preview-client.ts";
import { TestServer } from "../tests/support/server.ts";

/**
 * What a preview adds to a request, and how much a stream through it carries: node bench/previews.ts, in scripts/isolate.sh. Direct is the same
 * server on this host over a kept connection in the clear; through a preview the client's connection is kept, too. Beside both, the least that a
 * proxy of Node can do: TLS on one side, a connection for each request on the other, and the body piped. On a machine that others use, compare with
 * that and not with figures of another day.
 */
const ROUNDS = 1_000;
const STREAM_BYTES = 2 ** 29;

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

const DIRECT = SERVER.replace("8000", "0")
  .replace('console.log("listening")', "console.log(server.address().port)")
  .replace("http.createServer", "const server = http.createServer");

const LEAST_PROXY = `
const http = require("node:http");
const server = require("node:https").createServer({ key: process.env.KEY, cert: process.env.CERT }, ({ url }, response) => {
  http.get({ host: "127.0.0.1", port: process.env.PORT, path: url, agent: false }, (answer) => {
    response.writeHead(200);
    answer.pipe(response);
  });
});
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
`;

/** Runs a server in a process of its own, as the one inside is, and returns its port. */
async function run(script: string, env: NodeJS.ProcessEnv = {}): Promise<readonly [ChildProcess, number]> {
  const child = spawn(process.execPath, ["-e", script], {
    stdio: ["ignore", "pipe", "inherit"],
    env: { ...process.env, ...env },
  });
  const [port] = (await once(child.stdout, "data")) as [Buffer];
  return [child, Number(String(port))];
}

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

const report = (name: string, times: readonly number[], bytesPerSecond: number): void => {
  const stream = `${(bytesPerSecond / 1e6).toFixed(0)} MB/s`;
  console.log(`${name.padEnd(12)} p50 ${at(times, 0.5)} ms, p99 ${at(times, 0.99)} ms, a stream ${stream}`);
};

async function speed(send: () => Promise<number>): Promise<number> {
  const startMs = performance.now();
  return (await send()) / ((performance.now() - startMs) / 1000);
}

const [direct, directPort] = await run(DIRECT);
const authority = await CertificateAuthority.create({ commonName: "Bench" });
const { cert, key } = await authority.issue(["localhost"]);
const [proxy, proxyPort] = await run(LEAST_PROXY, { CERT: cert, KEY: key, PORT: String(directPort) });
const plainAgent = new PlainAgent({ keepAlive: true });
const proxyOptions: RequestOptions = { ...here, ca: authority.certificatePem };
const ways: readonly (readonly [name: string, send: (path: string) => Promise<number>])[] = [
  ["direct", (path) => read(plainRequest(`http://127.0.0.1:${directPort}${path}`, { agent: plainAgent }))],
  ["least proxy", (path) => read(request(`https://localhost:${proxyPort}${path}`, proxyOptions))],
  ["preview", (path) => read(request(`${url}${path}`, here))],
];
for (const [name, send] of ways) report(name, await latencies(() => send("/")), await speed(() => send("/stream")));
plainAgent.destroy();
direct.kill();
proxy.kill();
secureAgent.destroy();
await sandbox.kill();
