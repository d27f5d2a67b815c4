import { type OnReadOpts, Socket } from "node:net";
import type { Duplex } from "node:stream";
import { TLSSocket } from "node:tls";
import { descriptorOf, duplicateDescriptor, stopReading } from "@caisson/linux";

const BUFFER_BYTES = 64 * 1024;

/** Takes bytes that it must not keep: the buffer is read into again. False: no more until `socket.resume()`. */
type TakeBytes = (bytes: Buffer) => boolean;

/**
 * A connection of which all that comes is read into one buffer: Node otherwise makes a new one for every 64 KiB, and the memory of those has the
 * garbage collector go over the whole heap 40 times a gigabyte, which takes three times as long as the copying.
 */
export class OneBufferConnection {
  /** What is read from; what is written goes to the connection itself. */
  readonly socket: Socket;
  #take: TakeBytes = () => false;

  private constructor(open: (onread: OnReadOpts) => Socket) {
    const buffer = Buffer.allocUnsafeSlow(BUFFER_BYTES);
    this.socket = open({ buffer, callback: (length) => this.#take(buffer.subarray(0, length)) });
  }

  /**
   * Reads what comes on a connection, by a descriptor of its own; all else stays with the connection itself, and the end of one is the end of the other.
   * `early` is what Node has read of it already. Null where there are no such bytes, as with TLS, or the connection is closed.
   */
  static from(peer: Duplex): { readonly early: Buffer; readonly connection: OneBufferConnection } | null {
    const hasOwnBytes = peer instanceof Socket && !(peer instanceof TLSSocket);
    const descriptor = hasOwnBytes ? descriptorOf(peer) : null;
    if (descriptor === null) return null;
    const fd = duplicateDescriptor(descriptor);
    const early = stopReading(peer);
    const connection = new OneBufferConnection((onread) => new Socket({ fd, readable: true, writable: false, onread }));
    const { socket } = connection;
    peer.once("close", () => socket.destroy());
    socket.once("error", (error) => peer.destroy(error));
    // As it is with any connection: when both halves are over, so is the whole.
    socket.once("end", () => {
      if (peer.writableFinished) peer.destroy();
      else peer.once("finish", () => peer.destroy());
    });
    return { early, connection };
  }

  /** From here on, what comes goes to `take`. */
  receive(take: TakeBytes): void {
    this.#take = take;
    this.socket.resume();
  }

  /** From here on, what comes goes to `target` at its pace; when it has ended, so does the half of the target. What comes for a target that is gone is dropped. */
  copyTo(target: Duplex): void {
    let isWaiting = false;
    const onTaken = (): void => {
      if (!isWaiting || target.writableLength > 0) return;
      isWaiting = false;
      this.socket.resume();
    };
    this.receive((bytes) => {
      if (target.destroyed) return true;
      target.write(bytes, onTaken);
      // The kernel has it all, as a rule; then the buffer is free at once.
      isWaiting = target.writableLength > 0;
      return !isWaiting;
    });
    this.socket.on("end", () => target.end());
    target.once("close", () => this.socket.resume());
  }
}
