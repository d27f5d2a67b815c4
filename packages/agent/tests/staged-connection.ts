import type { TestContext } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { ClientConnection } from "../src/calls/connection.ts";
import { method } from "../src/calls/method.ts";
import { Editors } from "../src/editor/editors.ts";
import { agentMemory } from "../src/host/agent-memory.ts";
import { Exposures } from "../src/network/exposures.ts";
import { Environment } from "../src/processes/environment.ts";
import { OomDetector } from "../src/processes/oom.ts";
import { ProcessTable } from "../src/processes/process-table.ts";
import { WebSocketPeer } from "../src/wire/websocket.ts";

const PING_INTERVAL_MS = 1_000_000;
const EVENT = /"method":"\$sandbox\.stream\.(\w+)"|"(result)":|\u0089.(?<ping>\d+)/g;

/** Node 24 lacks what Deno has here. */
class Chunk extends Uint8Array {
  override toBase64(): string {
    return Buffer.from(this).toString("base64");
  }
}

/**
 * The agent's side of one connection, run in this process on a transport that takes a write when the test says so, with a client that answers pings
 * when the test says so, and on a clock that stands still. What comes before what is then seen for certain, where a client could only measure
 * gaps that a busy machine moves. The connection has one unanswered request, whose answer names a stream of chunks of these sizes.
 */
export class StagedConnection implements AsyncDisposable {
  /** What the transport was given, write by write: `result` for the answer, `ping`, else the last part of each notification's name. */
  readonly writes: string[] = [];
  readonly #running: Promise<void>;
  #reading = Promise.withResolvers<Uint8Array | null>();
  #timers: (() => void)[] = [];
  #takeWrite = () => {};
  #ping = "";

  constructor({ mock }: TestContext, ...chunkBytes: readonly number[]) {
    mock.method(Atomics, "waitAsync", (_cell: Int32Array, _index: number, _value: number, delayMs: number) => {
      const { promise, resolve } = Promise.withResolvers<"timed-out">();
      if (delayMs !== PING_INTERVAL_MS) this.#timers.push(() => resolve("timed-out"));
      return { async: true, value: promise };
    });
    const environment = new Environment({});
    const settings = {
      socketPath: "",
      defaultDirectory: "/",
      denoPath: "",
      pingIntervalMs: PING_INTERVAL_MS,
      clearedDirectory: null,
      rehearsedProgram: null,
    };
    const memory = agentMemory(null);
    const processes = new ProcessTable(environment, settings.defaultDirectory, new OomDetector());
    const transport = {
      read: async (buffer: Uint8Array) => {
        const bytes = await this.#reading.promise;
        if (bytes === null) return null;
        this.#reading = Promise.withResolvers();
        buffer.set(bytes);
        return bytes.length;
      },
      write: async (bytes: Uint8Array) => {
        const text = Buffer.from(bytes).toString("latin1");
        const events = [...text.matchAll(EVENT)];
        this.writes.push(events.map(([, kind, result]) => kind ?? result ?? "ping").join(" "));
        this.#ping = events.at(-1)?.groups?.ping ?? this.#ping;
        await new Promise<void>((resolve) => {
          this.#takeWrite = resolve;
        });
        return bytes.length;
      },
      close: () => {},
    };
    const peer = new WebSocketPeer(
      transport,
      masked(0x81, JSON.stringify({ jsonrpc: "2.0", id: 1, method: "produce" })),
      PING_INTERVAL_MS,
      memory.messages,
    );
    const produce = method({}, (_params, call) => ({
      streamId: call.openStream(() => chunkBytes.map((bytes) => new Chunk(bytes))),
    }));
    this.#running = new ClientConnection({
      sandbox: {
        environment,
        processes,
        editors: new Editors(processes),
        settings,
        memory,
        exposures: new Exposures(),
      },
      peer,
      methods: new Map([["produce", produce]]),
      userAgent: "",
    }).run();
  }

  /** Lets everything happen that waits neither for the transport nor for the clock. */
  async settle(): Promise<void> {
    // Only promises are left then, and one turn of the event loop comes after all of them.
    await turn();
  }

  /** The transport takes the write that it was given last. */
  async takeWrite(): Promise<void> {
    this.#takeWrite();
    await this.settle();
  }

  /** The client answers the last ping that it was sent. */
  async answerPing(): Promise<void> {
    this.#reading.resolve(masked(0x8a, this.#ping));
    await this.settle();
  }

  /** The time of all timers that run has come. */
  async passTime(): Promise<void> {
    for (const fire of this.#timers.splice(0)) fire();
    await this.settle();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#takeWrite();
    this.#reading.resolve(null);
    await this.#running;
  }
}

/** A frame whose mask is zero. */
function masked(firstByte: number, text: string): Uint8Array<ArrayBuffer> {
  const payload = Buffer.from(text);
  return Uint8Array.from([firstByte, 0x80 | payload.length, 0, 0, 0, 0, ...payload]);
}
