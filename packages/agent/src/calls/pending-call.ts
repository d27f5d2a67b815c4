import type { RpcId } from "@caisson/protocol/rpc";
import type { Budget } from "../host/budget.ts";
import { HeldStream, ONE_READ_BYTES } from "../wire/held-stream.ts";
import type { IncomingStreams, TakenStream } from "../wire/incoming-streams.ts";
import type { OutgoingStreams } from "../wire/outgoing-streams.ts";
import { abortError } from "./errors.ts";
import type { Call, Connection, StreamSource } from "./method.ts";

/** What a stream reads ahead until it starts. */
const READ_AHEAD_BYTES = 256 * 1024;

/** A request from its arrival until it was answered and the streams that it opened have ended. */
export class PendingCall implements Call {
  readonly id: RpcId;
  readonly connection: Connection;
  readonly #incoming: IncomingStreams;
  readonly #outgoing: OutgoingStreams;
  readonly #taken: TakenStream[] = [];
  readonly #opened: { readonly held: HeldStream; readonly source: StreamSource }[] = [];
  #controller: AbortController | null = null;
  #isAborted = false;
  readonly #turns: readonly Budget[];
  #giveTurn = () => {};
  #onAbort = () => {};

  constructor(
    id: RpcId,
    connection: Connection,
    incoming: IncomingStreams,
    outgoing: OutgoingStreams,
    turns: readonly Budget[],
  ) {
    this.id = id;
    this.#turns = turns;
    this.connection = connection;
    this.#incoming = incoming;
    this.#outgoing = outgoing;
  }

  get sandbox(): Connection["sandbox"] {
    return this.connection.sandbox;
  }

  /** Made on first use: most calls never look at it. */
  get signal(): AbortSignal {
    this.#controller ??= new AbortController();
    if (this.#isAborted) this.#controller.abort();
    return this.#controller.signal;
  }

  get isAborted(): boolean {
    return this.#isAborted;
  }

  abort(): void {
    this.#isAborted = true;
    this.#controller?.abort();
    this.#onAbort();
  }

  async inTurn<T>(run: () => Promise<T>): Promise<T> {
    const taken: Budget[] = [];
    this.#giveTurn = () => {
      for (const turns of taken.splice(0)) turns.give(1);
    };
    for (const turns of this.#turns) {
      await this.#unlessAborted(turns.take(1), () => turns.give(1));
      taken.push(turns);
    }
    return await run();
  }

  /** As `abortable`, without a signal: thousands of calls may wait here, and a signal takes some kilobytes. */
  async #unlessAborted(taking: Promise<void>, giveBack: () => void): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      this.#onAbort = () => reject(abortError());
      if (this.#isAborted) this.#onAbort();
      void taking.then(() => {
        if (this.#isAborted) giveBack();
        else resolve();
      });
    });
    this.#onAbort = () => {};
  }

  /** The answer was sent, or there is none. */
  endTurn(): void {
    this.#giveTurn();
  }

  openStream(source: StreamSource): number {
    const stream = this.#outgoing.open();
    this.#opened.push({ held: new HeldStream(stream, READ_AHEAD_BYTES), source });
    return stream.id;
  }

  takeStream(streamId: number): ReadableStream<Uint8Array<ArrayBuffer>> {
    const taken = this.#incoming.take(streamId);
    this.#taken.push(taken);
    return taken.readable;
  }

  /** The call failed: what it opened never starts, and what it took is not read to the end. */
  fail(): void {
    for (const { held } of this.#opened) held.stream.cancel();
    for (const taken of this.#taken) taken.abandon();
  }

  /**
   * Runs the streams that the call opened, after its answer was sent. They start when the client has read the answer, so that it reads the two
   * apart (protocol.md 3.5 point 2). Resolves when all have ended. Never rejects.
   */
  async runStreams(): Promise<void> {
    const [first] = this.#opened;
    if (first === undefined) return;
    // A source that is quickly exhausted has its stream held until then all the same.
    const started = first.held.stream.reached().then(() => {
      for (const { held } of this.#opened) held.release();
    });
    await Promise.all([started, ...this.#opened.map(({ held, source }) => run(held, source))]);
  }
}

async function run(held: HeldStream, source: StreamSource): Promise<void> {
  const { stream } = held;
  try {
    for await (const chunk of source(stream.signal)) {
      if (stream.isDone) return;
      await held.write(chunk);
    }
    if (held.isReleased || held.heldBytes > ONE_READ_BYTES) await held.endApart();
    else held.end();
  } catch (error) {
    held.error(error);
  }
}
