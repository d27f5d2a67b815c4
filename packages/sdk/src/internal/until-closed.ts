import { ConnectionClosedError } from "../core/errors.ts";

/** Ends something in a sandbox. When the connection closes meanwhile, or has been closed before, that has happened in another way. */
export async function untilClosed(end: () => Promise<void>): Promise<void> {
  try {
    await end();
  } catch (error) {
    if (!(error instanceof ConnectionClosedError)) throw error;
  }
}
