import { once } from "node:events";
import { connect, createServer, type Server, type Socket } from "node:net";
import { descriptorOf, type Ipv4Endpoint, readOriginalDestination } from "@caisson/linux";
import { getExtensionData, readTlsClientHello } from "read-tls-client-hello";
import type { ClosedAddresses } from "../closed-addresses.ts";
import type { EgressSandbox } from "../egress-sandbox.ts";
import { listenOn } from "../listen.ts";
import { allowsName, secretsFor } from "../policy.ts";
import { isSsh, readProtocol } from "./first-bytes.ts";
import { HttpForwarder } from "./http-forwarder.ts";
import { relay } from "./relay.ts";
import type { TlsInterceptor } from "./tls-interceptor.ts";

const HTTPS_PORT = 443;
/** Here the host is checked in every case: what is not understood is refused. */
const WEB_PORTS: readonly number[] = [80, HTTPS_PORT];
/** How long a client may take to finish the hello that it has begun. */
const HELLO_TIMEOUT_MS = 10_000;
const CONNECT_TIMEOUT_MS = 30_000;
/** Of all sandboxes together; each has two descriptors of the server. */
const CONNECTIONS_MAX = 4096;
/** Sockets that a sandbox may have, two for each connection, while more than half of those connections are taken. */
const FAIR_SOCKETS = 64;
const KEEP_ALIVE_MS = 60_000;

export interface EgressProxyOptions {
  readonly findSandbox: (address: string) => EgressSandbox | undefined;
  readonly closed: ClosedAddresses;
  readonly interceptor: TlsInterceptor;
}

/** Whether a sandbox may have another connection: the few that could take all of them leave half to the others. */
export function hasRoom(connectionCount: number, ownSocketCount: number): boolean {
  return connectionCount <= CONNECTIONS_MAX / 2 || ownSocketCount < FAIR_SOCKETS;
}

/**
 * Takes the connections that the kernel redirects here, which go to addresses that a sandbox has open by name. Several hosts often share an
 * address, so the name is checked again where the protocol tells it: TLS by its server name, HTTP by the Host of every request. SSH, which names no
 * host, and on other ports than those of the web all other protocols pass by their address alone.
 */
export class EgressProxy implements AsyncDisposable {
  readonly port: number;
  readonly #server: Server;
  readonly #options: EgressProxyOptions;
  readonly #http = new HttpForwarder();
  #connectionCount = 0;

  private constructor(server: Server, port: number, options: EgressProxyOptions) {
    this.#server = server;
    this.port = port;
    this.#options = options;
    server.maxConnections = CONNECTIONS_MAX;
    server.on("connection", (client) => {
      client.on("error", () => undefined);
      this.#connectionCount += 1;
      client.once("close", () => {
        this.#connectionCount -= 1;
      });
      void this.#handle(client).catch(() => client.resetAndDestroy());
    });
  }

  static async listen(address: string, options: EgressProxyOptions): Promise<EgressProxy> {
    const server = createServer({ pauseOnConnect: true, allowHalfOpen: true, noDelay: true });
    const port = await listenOn(server, address);
    return new EgressProxy(server, port, options);
  }

  /** The owner has disposed of the sandboxes, and with them of their connections. */
  async [Symbol.asyncDispose](): Promise<void> {
    const closed = once(this.#server, "close");
    this.#server.close();
    await closed;
  }

  async #handle(client: Socket): Promise<void> {
    const sandbox = this.#options.findSandbox(client.remoteAddress ?? "");
    if (!hasRoom(this.#connectionCount, sandbox?.socketCount ?? 0) || sandbox?.track(client) !== true) {
      client.resetAndDestroy();
      return;
    }
    client.setKeepAlive(true, KEEP_ALIVE_MS);
    const descriptor = descriptorOf(client);
    if (descriptor === null) throw new Error("The connection is closed");
    const target = await readOriginalDestination(descriptor, `of ${client.remoteAddress}`);
    if (this.#options.closed.has(target.address)) throw new Error("A closed address");
    const upstream = await this.#connect(sandbox, target);
    client.once("close", () => upstream.destroy());
    if (client.destroyed) {
      upstream.destroy();
      return;
    }
    // A server that speaks first speaks neither HTTP nor TLS; until it does, the client's first bytes are judged however long they take.
    const spoke = new AbortController();
    const onReadable = (): void => spoke.abort();
    upstream.once("readable", onReadable);
    const protocol = await readProtocol(client, spoke.signal);
    upstream.removeListener("readable", onReadable);
    const mustName = sandbox.policy.allow !== null && WEB_PORTS.includes(target.port);
    switch (protocol) {
      case "tls":
        return this.#handleTls(sandbox, target, client, upstream);
      case "http":
        if (sandbox.policy.allow === null) return relay(client, upstream);
        return this.#http.accept(client, {
          policy: sandbox.policy,
          target,
          serverName: null,
          secrets: [],
          bodies: [],
          connect: this.#connector(sandbox, target, upstream),
        });
      case "ssh":
        return relay(client, upstream);
      case "other":
        if (mustName) throw new Error("Neither TLS nor HTTP nor SSH");
        return relay(client, upstream);
      case null:
        if (!spoke.signal.aborted) throw new Error("The client ended before it could be told what it speaks");
        if (mustName && !isSsh(greetingOf(upstream))) throw new Error("A greeting that is not SSH's");
        return relay(client, upstream);
      default:
        protocol satisfies never;
    }
  }

  async #handleTls(sandbox: EgressSandbox, target: Ipv4Endpoint, client: Socket, upstream: Socket): Promise<void> {
    const { policy } = sandbox;
    const timer = setTimeout(() => client.resetAndDestroy(), HELLO_TIMEOUT_MS);
    let serverName: string | null;
    try {
      const hello = await readTlsClientHello(client);
      serverName = getExtensionData(hello, "sni")?.serverName ?? null;
    } catch (error) {
      // An unreadable hello names nobody, which is enough where everybody may be reached.
      if (policy.allow !== null) throw error;
      serverName = null;
    } finally {
      clearTimeout(timer);
    }
    if (policy.allow !== null && (serverName === null || !allowsName(policy, serverName, target.port))) {
      throw new Error("A server name that the policy does not have");
    }
    const secrets = serverName === null || target.port !== HTTPS_PORT ? [] : secretsFor(policy, serverName);
    if (serverName === null || secrets.length === 0) return relay(client, upstream);
    upstream.destroy();
    await this.#options.interceptor.accept(client, { sandbox, target, serverName, secrets });
  }

  /** Gives the connection that is there, and new ones when the server has closed it. */
  #connector(sandbox: EgressSandbox, target: Ipv4Endpoint, first: Socket): () => Socket {
    let isFirstTaken = false;
    return () => {
      if (!isFirstTaken && !first.destroyed) {
        isFirstTaken = true;
        return first;
      }
      const socket = connect({ host: target.address, port: target.port, noDelay: true });
      if (!sandbox.track(socket)) socket.destroy(new Error("Too many connections"));
      return socket;
    };
  }

  async #connect(sandbox: EgressSandbox, target: Ipv4Endpoint): Promise<Socket> {
    const upstream = connect({ host: target.address, port: target.port, allowHalfOpen: true, noDelay: true });
    upstream.on("error", () => undefined);
    if (!sandbox.track(upstream)) {
      upstream.destroy();
      throw new Error("Too many connections");
    }
    await once(upstream, "connect", { signal: AbortSignal.timeout(CONNECT_TIMEOUT_MS) }).catch((error: unknown) => {
      upstream.destroy();
      throw error;
    });
    upstream.setKeepAlive(true, KEEP_ALIVE_MS);
    return upstream;
  }
}

/** What the server has said so far, which stays there to be read. */
function greetingOf(upstream: Socket): Buffer {
  const bytes = (upstream.read() as Buffer | null) ?? Buffer.alloc(0);
  if (bytes.length > 0) upstream.unshift(bytes);
  return bytes;
}
