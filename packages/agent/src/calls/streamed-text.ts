import { abortError } from "./errors.ts";

/**
 * An answer that is one string and made while it is sent, because it is too large to be in memory as a whole next to others. `close` is
 * called once, whether it was sent or not.
 */
export interface StreamedText {
  /** The text as UTF-8, escaped as in JSON. A piece is only lent until the next one. */
  pieces(): AsyncIterable<Uint8Array>;
  /** About how long it is going to be. */
  readonly expectedBytes: number;
  close(): void;
}

export function isStreamedText(value: unknown): value is StreamedText {
  return typeof value === "object" && value !== null && "pieces" in value;
}

export function requireLive(signal: AbortSignal): void {
  if (signal.aborted) throw abortError();
}
