import { createSocket } from "node:dgram";
import { once } from "node:events";
import { createServer as createHttp, type IncomingMessage, type ServerResponse } from "node:http";
import { createServer as createHttps } from "node:https";
import { createServer, type Server } from "node:net";
import type { Duplex } from "node:stream";
import { CertificateAuthority } from "@caisson/certificates";
import { type Answer, decode, encode } from "dns-packet";
import { EGRESS_WORLD } from "./egress-world.ts";

/** The servers of the test's internet; run by egress-world.ts in a network namespace of its own. */
const { host, shared, other, resolver, foreignResolver, private: privateAddress } = EGRESS_WORLD;

/** What the name server says: addresses, or another name. */
const ZONE: Readonly<
  Record<string, { readonly ttl: number; readonly addresses: readonly string[] } | { readonly alias: string }>
> = {
  "allowed.test": { ttl: 1, addresses: [shared] },
  "forbidden.test": { ttl: 60, addresses: [shared] },
  "www.sub.test": { ttl: 60, addresses: [shared] },
  "sub.test": { ttl: 60, addresses: [shared] },
  "second.test": { ttl: 60, addresses: [other] },
  "alias.test": { alias: "edge.cdn.test" },
  "edge.cdn.test": { ttl: 60, addresses: [shared] },
  "rebinding.test": { ttl: 60, addresses: ["127.0.0.1", "169.254.169.254", host, privateAddress, "10.213.0.1"] },
  "many.test": {
    ttl: 60,
    addresses: [shared, ...Array.from({ length: 60 }, (_, index) => `203.0.113.${100 + index}`)],
  },
};

function records(name: string): Answer[] {
  const entry = ZONE[name.toLowerCase()];
  if (entry === undefined) return [];
  if ("alias" in entry) return [{ type: "CNAME", name, ttl: 60, data: entry.alias }, ...records(entry.alias)];
  return entry.addresses.map((data) => ({ type: "A", name, ttl: entry.ttl, data }));
}

const asked: string[] = [];
const received: string[] = [];
const ZEROS = 50_000_000;

function answer(message: Buffer, limit: number): Buffer {
  const query = decode(message);
  const [question] = query.questions ?? [];
  const name = question?.name ?? "";
  asked.push(`${question?.type} ${name}`);
  const base = { type: "response", id: query.id ?? 0, questions: query.questions ?? [] } as const;
  const answers = question?.type === "A" ? records(name) : [];
  const flags = 0x0180 | (ZONE[name.toLowerCase()] === undefined ? 3 : 0);
  const whole = encode({ ...base, flags, answers });
  return whole.length <= limit ? whole : encode({ ...base, flags: flags | 0x0200 });
}

/** Answers with what it has seen, as JSON; below /quiet it only remembers, for who asks for /received. */
async function respond(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const path = request.url ?? "";
  if (path === "/asked") return void response.end(JSON.stringify(asked));
  if (path === "/received") return void response.end(JSON.stringify({ requests: received }));
  if (path === "/zeros") return void response.end(Buffer.alloc(ZEROS));
  if (path === "/length") {
    let length = 0;
    for await (const chunk of request) length += (chunk as Buffer).length;
    return void response.end(String(length));
  }
  let body = "";
  for await (const chunk of request.setEncoding("utf8")) body += chunk;
  if (path.startsWith("/quiet")) {
    remember(request, body);
    return void response.end();
  }
  const seen = { from: request.socket.remoteAddress, host: request.headers.host, path };
  response.end(JSON.stringify(seen));
}

function remember({ method, url, headers }: IncomingMessage, body: string): void {
  received.push(JSON.stringify({ method, url, headers, body }));
}

async function listen(server: Server | ReturnType<typeof createHttp>, port: number): Promise<void> {
  server.listen(port, "0.0.0.0");
  await once(server, "listening");
}

async function main(): Promise<void> {
  console.log("here");
  process.stdin.once("data", () => void serve());
  process.stdin.on("end", () => process.exit());
}

async function serve(): Promise<void> {
  const authority = await CertificateAuthority.create({ commonName: "Test world" });
  const rogue = await CertificateAuthority.create({ commonName: "Test world" });
  const web = createHttp(respond);
  const upgrade = (request: IncomingMessage, socket: Duplex): void => {
    remember(request, "");
    socket.write("HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n");
    socket.pipe(socket);
  };
  web.on("upgrade", upgrade);
  const secureWeb = createHttps(
    {
      SNICallback: (name, done) =>
        void (name === "second.test" ? rogue : authority)
          .secureContext(name)
          .then((context) => done(null, context), done),
    },
    respond,
  );
  secureWeb.on("upgrade", upgrade);
  // A protocol in which the server speaks first.
  const banner = createServer((socket) => {
    socket.on("error", () => undefined);
    socket.write("220 ready\r\n");
    socket.pipe(socket);
  });
  // A protocol in which the client speaks first, and which is neither TLS nor HTTP.
  const echo = createServer((socket) => {
    socket.on("error", () => undefined);
    socket.pipe(socket);
  });
  const tcpNames = createServer((socket) => {
    socket.on("error", () => undefined);
    socket.once("data", (data) => {
      const reply = answer(data.subarray(2), 65_535);
      socket.end(Buffer.concat([Buffer.from([reply.length >> 8, reply.length & 255]), reply]));
    });
  });
  await listen(web, 80);
  await listen(createHttp(respond).on("upgrade", upgrade), 8080);
  await listen(secureWeb, 443);
  await listen(
    createHttps(
      { SNICallback: (name, done) => void authority.secureContext(name).then((context) => done(null, context), done) },
      respond,
    ),
    8443,
  );
  await listen(banner, 25);
  await listen(echo, 7000);
  await listen(tcpNames, 53);
  const udpEcho = createSocket("udp4");
  udpEcho.on("message", (message, peer) => udpEcho.send(message, peer.port, peer.address));
  // From one address, since an answer must come from where the question went.
  udpEcho.bind(7000, shared);
  for (const address of [resolver, foreignResolver]) {
    const names = createSocket("udp4");
    names.on("message", (message, peer) => names.send(answer(message, 512), peer.port, peer.address));
    names.bind(53, address);
    await once(names, "listening");
  }
  console.log(JSON.stringify({ authority: authority.certificatePem }));
}

await main();
