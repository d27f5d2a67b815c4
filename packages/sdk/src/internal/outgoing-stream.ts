import { NOTIFICATIONS, STREAM_CHUNK_BYTES } from "@caisson/protocol/rpc";
import { errors, toErrorObject } from "./error-object.ts";

/** How a stream sends. */
export interface OutgoingStreamOwner {
  notify(method: string, params: Readonly<Record<string, unknown>>): void;
  /** Sends one chunk of at most `STREAM_CHUNK_BYTES`, which is free afterwards; resolves when little enough is waiting to be sent. */
  sendChunk(streamId: number, chunk: Uint8Array): Promise<void>;
  onFinish(stream: OutgoingStream): void;
}

/** Data on its way from the caller's program into the sandbox: stdin, file contents, request bodies (protocol.md 3.5). */
export class OutgoingStream {
  readonly id: number;
  readonly writable: WritableStream<Uint8Array>;
  #controller: WritableStreamDefaultController | null = null;

  constructor(id: number, owner: OutgoingStreamOwner) {
    this.id = id;
    this.writable = new WritableStream<Uint8Array>({
      start: (controller) => {
        this.#controller = controller;
        owner.notify(NOTIFICATIONS.streamStart, { streamId: id });
      },
      write: async (chunk) => {
        if (!(chunk instanceof Uint8Array))
          throw new TypeError("Cannot send this chunk into the sandbox: give a Uint8Array");
        for (let offset = 0; offset < chunk.byteLength; offset += STREAM_CHUNK_BYTES) {
          await owner.sendChunk(id, chunk.subarray(offset, offset + STREAM_CHUNK_BYTES));
        }
      },
      close: () => {
        owner.onFinish(this);
        owner.notify(NOTIFICATIONS.streamEnd, { streamId: id });
      },
      abort: (reason) => {
        owner.onFinish(this);
        owner.notify(NOTIFICATIONS.streamError, { streamId: id, error: toErrorObject(reason) });
      },
    });
  }

  /** The sandbox wants no more, or the connection ended: writes fail from now on. */
  stop(reason: unknown): void {
    this.#controller?.error(
      reason ?? new errors.BrokenPipe("Broken pipe (os error 32): the reader in the sandbox is gone"),
    );
  }
}
