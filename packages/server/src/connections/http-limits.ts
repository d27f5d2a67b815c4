import type { HttpLimits } from "@caisson/linux";

export type { HttpRefusal } from "@caisson/linux";

/** All headers of a request together. Variables, secrets and labels of a create travel in one of them, in base64 (protocol.md 1.4). */
export const MAX_HEADER_BYTES = 2 * 2 ** 20;
export const MAX_BODY_BYTES = 2 ** 20;
/** How long a connection may be silent before the kernel asks whether the client's machine is there; ten questions without an answer end it. */
export const KEEP_ALIVE_MS = 15_000;

/** What clients may cost the API, known or not. */
export const HTTP_LIMITS = {
  connectionsMax: 8192,
  waitingRequestsMax: 16,
  headersMs: 20_000,
  bodyMs: 60_000,
  restMs: 5_000,
  answerMs: 60_000,
  idleMs: 75_000,
  bufferedBytesMax: 64 * 2 ** 20,
} as const satisfies HttpLimits;
