import { once } from "node:events";
import { connect as connectTcp, type Socket } from "node:net";
import { connect as connectTls, createServer, getCACertificates, type SecureContext, type TLSSocket } from "node:tls";
import { CertificateAuthority } from "@caisson/certificates";
import { ByteBudget, type Ipv4Endpoint } from "@caisson/linux";
import type { EgressSecret } from "../../runtime.ts";
import type { EgressSandbox } from "../egress-sandbox.ts";
import { HttpForwarder } from "./http-forwarder.ts";

const HANDSHAKE_TIMEOUT_MS = 20_000;
/** Of all sandboxes together. */
const BODY_BYTES_MAX = 128 * 1024 * 1024;
const PROTOCOLS = ["http/1.1"];

export interface InterceptedConnection {
  readonly sandbox: EgressSandbox;
  readonly target: Ipv4Endpoint;
  readonly serverName: string;
  readonly secrets: readonly EgressSecret[];
}

/**
 * Stands between a sandbox and the hosts of its secrets: ends the sandbox's TLS under a certificate of its own authority and begins another TLS to
 * the host, whose certificate it verifies against this host's trust store. Only on that verified connection do values go out.
 */
export class TlsInterceptor {
  readonly #http = new HttpForwarder();
  readonly #bodies = new ByteBudget(BODY_BYTES_MAX);
  #authority: Promise<CertificateAuthority> | null = null;
  #trusted: readonly string[] | null = null;

  async authorityCertificate(): Promise<string> {
    return (await this.#getAuthority()).certificatePem;
  }

  async accept(client: Socket, { sandbox, target, serverName, secrets }: InterceptedConnection): Promise<void> {
    const authority = await this.#getAuthority();
    const secureContext = await authority.secureContext(serverName);
    const tls = await startTls(client, secureContext);
    this.#http.accept(tls, {
      policy: sandbox.policy,
      target,
      serverName,
      secrets,
      bodies: [sandbox.bodies, this.#bodies],
      connect: () => this.#connect(sandbox, target, serverName),
    });
  }

  #connect(sandbox: EgressSandbox, { address, port }: Ipv4Endpoint, serverName: string): TLSSocket {
    this.#trusted ??= trustedCertificates();
    const socket = connectTcp({ host: address, port, noDelay: true });
    if (!sandbox.track(socket)) socket.destroy(new Error("Too many connections"));
    return connectTls({
      socket,
      servername: serverName,
      ca: [...this.#trusted],
      rejectUnauthorized: true,
      ALPNProtocols: PROTOCOLS,
    });
  }

  #getAuthority(): Promise<CertificateAuthority> {
    this.#authority ??= CertificateAuthority.create({ commonName: "Caisson sandbox secrets" });
    return this.#authority;
  }
}

/** The host's trust store; where it is empty, the one that Node brings. */
function trustedCertificates(): readonly string[] {
  const system = getCACertificates("system");
  return system.length > 0 ? system : getCACertificates("bundled");
}

async function startTls(client: Socket, secureContext: SecureContext): Promise<TLSSocket> {
  // A server that never listens: it only makes sessions on connections that are there. One each, so that its events are about this connection.
  const server = createServer({
    ALPNProtocols: PROTOCOLS,
    SNICallback: (_name, done) => done(null, secureContext),
    handshakeTimeout: HANDSHAKE_TIMEOUT_MS,
  });
  const failed = new AbortController();
  server.once("tlsClientError", (error) => failed.abort(error));
  client.once("close", () => failed.abort(new Error("The client closed the connection")));
  const secured = once(server, "secureConnection", { signal: failed.signal });
  server.emit("connection", client);
  const [socket] = (await secured) as [TLSSocket];
  socket.on("error", () => undefined);
  return socket;
}
