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

/** Of one question, or one answer. */
export const MAX_JSON_BYTES = 64 * 2 ** 20;
