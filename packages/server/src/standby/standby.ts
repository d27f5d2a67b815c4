import { hostname } from "node:os";
import type { Leader, ListenerAddress, ServerAddress, StandBy } from "@caisson/database";
import { hasErrorCode } from "@caisson/linux";
import type { Logger } from "pino";
import type { Config } from "../config.ts";
import { explainListening } from "../listen-address.ts";
import { Relay } from "./relay.ts";

type Kind = keyof ServerAddress;

const SETTINGS = { api: "listen", previews: "expose.listen", ssh: "ssh.listen" } as const satisfies Record<
  Kind,
  string
>;

/**
 * A server that stands by for the one that leads: it takes connections where it would take them itself, and relays them to that one. When it leads, it gives its addresses to its own listeners, and those
 * connections that waited for a server that leads are the first.
 */
export class Standby implements StandBy, Disposable {
  readonly #config: Config;
  readonly #logger: Logger;
  readonly #tell: (leader: Leader) => void;
  readonly #relays = new Map<Kind, Relay>();
  #isListening = false;

  /** `tell` is called when another one leads. */
  constructor(config: Config, logger: Logger, tell: (leader: Leader) => void) {
    this.#config = config;
    this.#logger = logger;
    this.#tell = tell;
  }

  /** Throws `INVALID_CONFIG` when it cannot listen. */
  async onLeader(leader: Leader): Promise<void> {
    if (!this.#isListening) await this.#listen();
    this.#isListening = true;
    this.#relayToLeader(leader);
    const { host, dataDirectory, address } = leader;
    this.#logger.info(
      { host, dataDirectory, address },
      address === null ? "another server begins to lead" : "another server leads",
    );
    if (address !== null) this.#tell(leader);
  }

  onProblem(error: unknown): void {
    this.#logger.error({ err: error }, "cannot see who leads, and cannot take over; it is tried again");
  }

  /** This server leads now: connections that were relayed end, and those that come wait for its own listeners. */
  hold(): void {
    for (const relay of this.#relays.values()) relay.setTarget(null);
  }

  /** This server is about to listen itself for connections of this kind. Until then, new ones are refused. */
  release(kind: Kind): void {
    this.#relays.get(kind)?.release();
  }

  /** This server listens itself: connections that still wait are its own. */
  relayToSelf(address: ServerAddress): void {
    for (const [kind, relay] of this.#relays) relay.setTarget(address[kind]);
  }

  [Symbol.dispose](): void {
    for (const relay of this.#relays.values()) relay[Symbol.dispose]();
  }

  /** What is a loopback address on another machine is this server itself here, or another program. */
  #relayToLeader({ host, address }: Leader): void {
    for (const [kind, relay] of this.#relays) {
      const target = address?.[kind] ?? null;
      const isUnreachable = target !== null && host !== hostname() && isLoopback(target.host);
      relay.setTarget(isUnreachable ? null : target);
      if (isUnreachable)
        this.#logger.error(
          { kind, target },
          `cannot relay to the server on ${host}, which listens at ${target.host}: listen at an address that the other servers reach (${SETTINGS[kind]} in caisson.toml)`,
        );
    }
  }

  async #listen(): Promise<void> {
    const { listenHost, listenPort, expose, ssh } = this.#config;
    await this.#relay("api", { host: listenHost, port: listenPort }, false);
    await this.#relay("previews", { host: expose.listenHost, port: expose.listenPort }, expose.isPortFree);
    if (ssh !== null) await this.#relay("ssh", { host: ssh.listenHost, port: ssh.listenPort }, ssh.isPortFree);
  }

  async #relay(kind: Kind, address: ListenerAddress, isPortFree: boolean): Promise<void> {
    try {
      this.#relays.set(kind, await explainListening(address.host, address.port, () => Relay.listen(address)));
    } catch (error) {
      // Nobody asked for that port, and another one is nothing that clients would know.
      if (!isPortFree || !hasErrorCode((error as Error).cause, "EADDRINUSE")) throw error;
      this.#logger.warn({ err: error, kind }, "this server does not stand by for connections of this kind");
    }
  }
}

function isLoopback(host: string): boolean {
  return host === "localhost" || host === "::1" || /^127\./.test(host);
}
