import { CaissonError } from "@caisson/model";
import type { NodeEvent, TakeNodeEvent } from "@caisson/node";

/** How long an event waits for a server before the node hears that nobody took it. It tells again what must not get lost. */
const WAIT_MS = 10_000;
/** An exit is told once, so it waits for long; the oldest goes when there are more. A server that comes back asks for the sandboxes too. */
const MAX_WAITING = 10_000;

/** What a node's process tells its server: what happens on the node, and that it ends, so that its sandboxes are ended before. */
export type LinkEvent = NodeEvent | { readonly kind: "node-stopping" };

interface Waiting {
  readonly event: LinkEvent;
  readonly taken: PromiseWithResolvers<void>;
}

/** Gets an event to the server, and resolves when it has been taken. */
export type SendEvent = (event: LinkEvent) => Promise<void>;

/** What has happened on a node, until a server has taken it. `take` is what the node is opened with. */
export class NodeEvents {
  readonly #waiting = new Set<Waiting>();
  #send: SendEvent | null = null;

  readonly take: TakeNodeEvent = (event) => this.#tell(event);

  /** Resolves when a server has ended the sandboxes of this node; rejects when there is none, or it takes longer than 10 s. */
  tellOfStopping(): Promise<void> {
    return this.#tell({ kind: "node-stopping" });
  }

  /** From here on, events go there, and first those that wait. The returned function ends that, unless another has come since. */
  attach(send: SendEvent): () => void {
    this.#send = send;
    for (const entry of this.#waiting) this.#deliver(entry, send);
    return () => {
      if (this.#send === send) this.#send = null;
    };
  }

  async #tell(event: LinkEvent): Promise<void> {
    const entry: Waiting = { event, taken: Promise.withResolvers<void>() };
    this.#waiting.add(entry);
    const [oldest] = this.#waiting;
    if (this.#waiting.size > MAX_WAITING && oldest !== undefined) this.#giveUp(oldest);
    const timer = event.kind === "sandbox-exited" ? undefined : setTimeout(() => this.#giveUp(entry), WAIT_MS).unref();
    if (this.#send !== null) this.#deliver(entry, this.#send);
    try {
      await entry.taken.promise;
    } finally {
      clearTimeout(timer);
      this.#waiting.delete(entry);
    }
  }

  #deliver(entry: Waiting, send: SendEvent): void {
    send(entry.event).then(
      () => entry.taken.resolve(),
      (error: unknown) => {
        // It goes to the next connection; only a server that has it and cannot take it is the end.
        if (error instanceof EventNotTakenError) entry.taken.reject(error);
      },
    );
  }

  #giveUp(entry: Waiting): void {
    this.#waiting.delete(entry);
    entry.taken.reject(new CaissonError("NODE_UNAVAILABLE", "No server has taken the event: none is connected"));
  }
}

/** The server got the event, and could not take it. */
export class EventNotTakenError extends Error {}
