import type { Node } from "@caisson/node";

/** What may be on its way of one stream: so much is in memory for a reader that does not read. */
const STREAM_WINDOW_BYTES = 256 * 1024;
/** What may be on its way of a whole connection; only what has not been looked at yet counts, so a slow stream does not hold up others. */
export const CONNECTION_WINDOW_BYTES = 16 * 2 ** 20;

export const SESSION_OPTIONS = {
  settings: {
    initialWindowSize: STREAM_WINDOW_BYTES,
    // Each connection to an agent is a stream. Who is there has shown a certificate of the installation.
    maxConcurrentStreams: 2 ** 20,
    enablePush: false,
  },
  /** In MB; 10, the default, would be the windows of 40 slow streams. */
  maxSessionMemory: 1024,
} as const;

/** Of one question, and of an answer that is a list. */
export const MAX_JSON_BYTES = 64 * 2 ** 20;
/** Of any other answer: a node in foreign hands may send so much in each call that is under way. */
const MAX_ANSWER_BYTES = 2 ** 20;
const LISTING: ReadonlySet<keyof Node> = new Set(["listDisks", "listMountedDisks", "placesOf", "listSandboxes"]);

/** What the answer to a call may take of memory while it comes. */
export function maxAnswerBytes(method: keyof Node): number {
  return LISTING.has(method) ? MAX_JSON_BYTES : MAX_ANSWER_BYTES;
}

/** About what a buffer itself takes. */
const LEAST_CHUNK_BYTES = 256;

/** What a chunk that is kept counts as: many tiny ones take far more memory than their bytes. */
export function keptBytes(chunk: Buffer): number {
  return Math.max(chunk.length, LEAST_CHUNK_BYTES);
}
