import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { runTool } from "@caisson/linux";

/** Addresses of the world that the test makes. Nothing of it exists outside the test's network namespaces. */
export const EGRESS_WORLD = {
  host: "198.51.100.1",
  /** A machine that serves many names, as content networks do. */
  shared: "203.0.113.10",
  /** Another machine. */
  other: "203.0.113.20",
  resolver: "203.0.113.53",
  /** A name server that has gone: nobody has this address. */
  silentResolver: "203.0.113.54",
  /** A resolver that the host does not use, which answers everything. */
  foreignResolver: "192.0.2.8",
  private: "10.99.0.10",
} as const;

/** A network namespace that plays the internet for the one that this process is in: the servers of egress-world-servers.ts. */
export class EgressWorld implements AsyncDisposable {
  readonly #servers: ChildProcess;
  /** PEM of the authority that the world's servers have their certificates from. */
  readonly authority: string;

  private constructor(servers: ChildProcess, authority: string) {
    this.#servers = servers;
    this.authority = authority;
  }

  static async start(): Promise<EgressWorld> {
    const script = `${import.meta.dirname}/egress-world-servers.ts`;
    const servers = spawn("unshare", ["--net", "--", process.execPath, script], { stdio: ["pipe", "pipe", "inherit"] });
    try {
      const lines = createInterface({ input: servers.stdout });
      // The first line says that the namespace is there, the second one that the servers listen.
      const iterator = lines[Symbol.asyncIterator]();
      await iterator.next();
      await connectWorld(servers.pid ?? 0);
      servers.stdin.write("connected\n");
      const { value } = await iterator.next();
      return new EgressWorld(servers, (JSON.parse(String(value)) as { readonly authority: string }).authority);
    } catch (error) {
      servers.kill("SIGKILL");
      throw error;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const ended = once(this.#servers, "close");
    this.#servers.stdin?.end();
    await ended;
  }
}

async function connectWorld(pid: number): Promise<void> {
  const { host, shared, other, resolver, foreignResolver, private: privateAddress } = EGRESS_WORLD;
  const outside = [
    "link set lo up",
    `link add world type veth peer name eth0 netns ${pid}`,
    `addr add ${host}/24 dev world`,
    "link set world up",
    "route add default via 198.51.100.254 dev world onlink",
  ];
  const inside = [
    "link set lo up",
    "addr add 198.51.100.254/24 dev eth0",
    ...[shared, other, resolver, foreignResolver, privateAddress].map((address) => `addr add ${address}/32 dev eth0`),
    "link set eth0 up",
    `route add default via ${host}`,
  ];
  await runTool("ip", ["-batch", "-"], { input: `${outside.join("\n")}\n` });
  await runTool("nsenter", [`--net=/proc/${pid}/ns/net`, "ip", "-batch", "-"], { input: `${inside.join("\n")}\n` });
}
