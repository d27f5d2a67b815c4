import { UNREAD_BYTES_MAX, UNREAD_BYTES_PER_CHANNEL_MAX } from "./limits.ts";

/** What clients have sent and nothing inside has read. The library grants each channel a window and does not hold clients to it. */
export class UnreadBytes {
  readonly #byConnection = new Map<object, () => number>();

  /** `count`: how many bytes the connection's channels hold. Returns what forgets it. */
  add(connection: object, count: () => number): () => void {
    this.#byConnection.set(connection, count);
    return () => {
      this.#byConnection.delete(connection);
    };
  }

  /** Whether a connection whose channels hold so much may go on. */
  isTooMuch(channels: Iterable<{ readonly readableLength: number }>): boolean {
    let own = 0;
    for (const { readableLength } of channels) {
      if (readableLength > UNREAD_BYTES_PER_CHANNEL_MAX) return true;
      own += readableLength;
    }
    return own > 0 && this.#total() > UNREAD_BYTES_MAX;
  }

  #total(): number {
    let total = 0;
    for (const count of this.#byConnection.values()) total += count();
    return total;
  }
}
