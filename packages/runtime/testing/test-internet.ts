import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { runTool } from "@caisson/linux";

/** Addresses of the world that a test makes around its host. Nothing of it exists outside the test's network namespaces. */
export const WORLD = {
  /** The host's own public address. */
  host: "198.51.100.1",
  /** A web server out there; its answer to TCP port 80 is the address that it sees. */
  web: "198.51.100.10",
  /** A name server out there, on the same machine: answers `web` to every question of type A. */
  resolver: "198.51.100.10",
  /** A name server that has gone: nobody has this address. */
  silentResolver: "198.51.100.53",
  /** The same web server in a private network beyond the host. */
  privateWeb: "10.99.0.10",
  /** A cloud's metadata service, as an address of the host, and as one beyond it. */
  metadata: "169.254.169.254",
  distantMetadata: "169.254.170.2",
} as const;

/** Answers with the peer's address over TCP, and to name questions over UDP and TCP with the web server's address. */
const SERVERS = `
const net = require("node:net"), dgram = require("node:dgram");
const web = ${JSON.stringify(WORLD.web)};
function answer(question) {
  const end = question.indexOf(0, 12) + 5;
  const isA = question.readUInt16BE(end - 4) === 1;
  const header = Buffer.from(question.subarray(0, 12));
  header.writeUInt16BE(0x8180, 2);
  header.writeUInt16BE(isA ? 1 : 0, 6);
  header.writeUInt32BE(0, 8);
  const record = Buffer.from([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, ...web.split(".").map(Number)]);
  return Buffer.concat([header, question.subarray(12, end), ...(isA ? [record] : [])]);
}
const http = net.createServer((socket) => {
  socket.on("error", () => {});
  socket.once("data", () => socket.end("HTTP/1.0 200 OK\\r\\n\\r\\n" + socket.remoteAddress));
});
const names = dgram.createSocket("udp4");
names.on("message", (question, peer) => names.send(answer(question), peer.port, peer.address));
const tcpNames = net.createServer((socket) => {
  socket.on("error", () => {});
  socket.once("data", (data) => {
    const reply = answer(data.subarray(2));
    socket.end(Buffer.concat([Buffer.from([reply.length >> 8, reply.length & 255]), reply]));
  });
});
http.listen(80, "0.0.0.0", () => tcpNames.listen(53, "0.0.0.0", () =>
  names.bind(53, "0.0.0.0", () => console.log("ready"))));
process.stdin.resume().on("end", () => process.exit());
`;

/**
 * A network namespace that plays the internet for the one that this process is in, which plays the host. The process must be in a network
 * namespace of its own already.
 */
export class TestInternet implements AsyncDisposable {
  readonly #servers: ChildProcess;

  private constructor(servers: ChildProcess) {
    this.#servers = servers;
  }

  static async start(): Promise<TestInternet> {
    const servers = spawn("unshare", ["--net", "--", process.execPath, "-e", `setTimeout(() => { ${SERVERS} }, 0)`], {
      stdio: ["pipe", "pipe", "inherit"],
      env: { PATH: process.env.PATH },
    });
    const internet = new TestInternet(servers);
    try {
      await once(servers.stdout, "data");
      await connect(servers.pid ?? 0);
      return internet;
    } catch (error) {
      await internet[Symbol.asyncDispose]();
      throw error;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const ended = once(this.#servers, "close");
    this.#servers.stdin?.end();
    await ended;
  }
}

async function connect(pid: number): Promise<void> {
  const outside = [
    "link set lo up",
    `link add world type veth peer name eth0 netns ${pid}`,
    `addr add ${WORLD.host}/24 dev world`,
    `addr add ${WORLD.metadata}/32 dev world`,
    "link set world up",
    `route add ${WORLD.privateWeb}/32 via ${WORLD.web} onlink dev world`,
    `route add ${WORLD.distantMetadata}/32 via ${WORLD.web} onlink dev world`,
  ];
  const inside = [
    "link set lo up",
    `addr add ${WORLD.web}/24 dev eth0`,
    `addr add ${WORLD.privateWeb}/32 dev eth0`,
    `addr add ${WORLD.distantMetadata}/32 dev eth0`,
    "link set eth0 up",
    // Also answers to sources that a missing translation would let out, so that the test sees them.
    `route add default via ${WORLD.host}`,
  ];
  await runTool("ip", ["-batch", "-"], { input: `${outside.join("\n")}\n` });
  await runTool("nsenter", [`--net=/proc/${pid}/ns/net`, "ip", "-batch", "-"], { input: `${inside.join("\n")}\n` });
}
