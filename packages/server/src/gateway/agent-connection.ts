import { connect, type Socket } from "node:net";
import type { Duplex } from "node:stream";

const BUFFER_BYTES = 64 * 1024;

/** Takes bytes that it must not keep: the buffer is read into again. False: no more until `socket.resume()`. */
type TakeBytes = (bytes: Buffer) => boolean;

/**
 * A connection to an agent. All that comes is read into one buffer: Node otherwise makes a new one for every 64 KiB, and the memory of those has the
 * garbage collector go over the whole heap 40 times a gigabyte, which takes three times as long as the copying.
 */
export class AgentConnection {
  readonly socket: Socket;
  #take: TakeBytes = () => false;

  constructor(socketPath: string) {
    const buffer = Buffer.allocUnsafeSlow(BUFFER_BYTES);
    this.socket = connect({
      path: socketPath,
      onread: {
        buffer,
        callback: (length) => this.#take(buffer.subarray(0, length)),
      },
    });
    this.socket.on("error", () => {});
  }

  /** From here on, what comes goes to `take`. */
  receive(take: TakeBytes): void {
    this.#take = take;
    this.socket.resume();
  }

  /** From here on, what comes goes to the client at the client's pace; when it has ended, so does the client's half. What comes for a client that is gone is dropped. */
  copyTo(client: Duplex): void {
    let isWaiting = false;
    const onTaken = (): void => {
      if (!isWaiting || client.writableLength > 0) return;
      isWaiting = false;
      this.socket.resume();
    };
    this.receive((bytes) => {
      if (client.destroyed) return true;
      client.write(bytes, onTaken);
      // The kernel has it all, as a rule; then the buffer is free at once.
      isWaiting = client.writableLength > 0;
      return !isWaiting;
    });
    this.socket.on("end", () => client.end());
  }
}
