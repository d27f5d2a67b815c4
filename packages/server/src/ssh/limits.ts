/** Connections of everybody together. */
export const CONNECTIONS_MAX = 1024;
/** Connections that have not logged in yet: of everybody together, and from one address. */
export const STRANGERS_MAX = 128;
export const STRANGERS_PER_ADDRESS_MAX = 32;
/** From the first byte to the login. */
export const LOGIN_MS = 30_000;
/** Keys and names that one connection may try. A client offers every key it has. */
export const ATTEMPTS_MAX = 20;
/** Connections from one address that ended without a login: so many at once, and so many more each second. */
export const FAILURES_BURST = 40;
export const FAILURES_PER_SECOND = 1;
/** Sessions and forwarded connections of one connection at a time. */
export const CHANNELS_MAX = 128;
/** A client that is gone is noticed after so many questions without an answer, this far apart. */
export const KEEP_ALIVE_MS = 15_000;
export const KEEP_ALIVES_MAX = 3;
/** What may wait to be sent to one client before more is fetched for it, and before nothing more is read from it. */
export const UNSENT_BYTES = 1024 * 1024;
export const UNSENT_BYTES_MAX = 8 * 1024 * 1024;
/** What a client may have sent that nothing inside has read: on one channel (the library grants it 4 MiB), and of everybody together. */
export const UNREAD_BYTES_PER_CHANNEL_MAX = 5 * 1024 * 1024;
export const UNREAD_BYTES_MAX = 256 * 1024 * 1024;
/** Variables that a client may set for one session. */
export const VARIABLES_MAX = 128;
export const VARIABLE_BYTES_MAX = 128 * 1024;
