import type { Socket } from "node:net";
import { ByteBudget, step } from "@caisson/linux";
import { changePacketFilter } from "../network/packet-filter.ts";
import type { EgressPolicy } from "../runtime.ts";
import { addElements, grantElements, removeElements, type SetElement, staticElements } from "./egress-rules.ts";
import type { AllowedPorts } from "./policy.ts";

/** Addresses that one sandbox may have open by name at a time. */
const GRANTS_MAX = 2048;
/** Sockets that the server may have open for one sandbox at a time, two for each of its connections. */
const CONNECTIONS_MAX = 512;
/** Bodies of requests to the hosts of its secrets that the server reads whole at a time. */
const BODY_BYTES_MAX = 8 * 1024 * 1024;
/** The client's time to live begins a little after the server's. */
const SLACK_SECONDS = 2;

/** The policy of one running sandbox and what the kernel holds of it. Disposing it takes everything back. */
export class EgressSandbox implements AsyncDisposable {
  readonly address: string;
  readonly policy: EgressPolicy;
  readonly bodies = new ByteBudget(BODY_BYTES_MAX);
  readonly #table: string;
  /** When each granted element ends, by set and key; epoch milliseconds. */
  readonly #granted = new Map<string, { readonly element: SetElement; readonly endsAtMs: number }>();
  readonly #sockets = new Set<Socket>();
  /** One change at a time, and none after the end. */
  #work: Promise<void> = Promise.resolve();
  #isClosed = false;

  constructor(table: string, address: string, policy: EgressPolicy) {
    this.#table = table;
    this.address = address;
    this.policy = policy;
  }

  /** Closes the network for the sandbox as far as its policy says; must resolve before anything runs in it. */
  async restrict(): Promise<void> {
    await step("egress.restrict", () =>
      this.#change(addElements(this.#table, staticElements(this.address, this.policy))),
    );
  }

  /**
   * Opens the addresses on the ports and resolves when they are open: for at least the given time to live, and longer for clients that keep an
   * address longer. What is open long enough already is left alone, so that a program which asks for a name again and again costs little.
   */
  async grant(
    addresses: readonly string[],
    ports: AllowedPorts,
    ttlSeconds: number,
    secondsMin: number,
  ): Promise<void> {
    const previous = this.#work;
    const done = (async () => {
      await previous.catch(() => undefined);
      if (this.#isClosed) throw new Error("The sandbox has ended");
      const nowMs = Date.now();
      const needed = Math.max(ttlSeconds + SLACK_SECONDS, secondsMin / 2);
      const seconds = Math.ceil(Math.max(2 * (ttlSeconds + SLACK_SECONDS), secondsMin));
      this.#forgetEnded(nowMs);
      const due = addresses
        .flatMap((target) => grantElements(this.address, target, ports))
        .filter(({ set, key }) => (this.#granted.get(`${set} ${key}`)?.endsAtMs ?? 0) < nowMs + needed * 1000);
      if (due.length === 0) return;
      if (this.#granted.size + due.length > GRANTS_MAX) {
        throw new Error(`The sandbox has ${GRANTS_MAX} addresses open by name already`);
      }
      for (const element of due) {
        this.#granted.set(`${element.set} ${element.key}`, { element, endsAtMs: nowMs + seconds * 1000 });
      }
      await step("egress.grant", () => this.#change(addElements(this.#table, due, seconds)));
    })();
    this.#work = done;
    await done;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isClosed = true;
    await this.#work.catch(() => undefined);
    for (const socket of this.#sockets) socket.destroy();
    const elements = [...this.#granted.values()].map(({ element }) => element);
    // Grants go before the restriction, which is what makes them necessary.
    await step("egress.release", () =>
      this.#change(
        removeElements(this.#table, [...elements, ...staticElements(this.address, this.policy).toReversed()]),
      ),
    );
    this.#granted.clear();
  }

  get socketCount(): number {
    return this.#sockets.size;
  }

  /** Ends connections that the server makes for the sandbox together with it. */
  track(socket: Socket): boolean {
    if (this.#isClosed || this.#sockets.size >= CONNECTIONS_MAX) return false;
    this.#sockets.add(socket);
    socket.once("close", () => this.#sockets.delete(socket));
    return true;
  }

  #forgetEnded(nowMs: number): void {
    for (const [key, { endsAtMs }] of this.#granted) if (endsAtMs < nowMs) this.#granted.delete(key);
  }

  async #change(input: string): Promise<void> {
    if (input !== "") await changePacketFilter(input);
  }
}
