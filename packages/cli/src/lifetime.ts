import { parseDuration } from "@caisson/model";
import type { Client } from "@caisson/sdk";
import { formatSpan } from "./output/format.ts";
import type { Output } from "./output/output.ts";

/** What servers allow (protocol.md 5.4). Only for more than that are they asked what came of it. */
const USUAL_LIMIT = "30m";
/** Requests take their time, and clocks differ: a difference below this is none. */
const TOLERANCE_MS = 5_000;

/** Says so when a sandbox that was given a time from `startMs` on ends earlier, because the server allows no more. */
export function warnIfShorter(output: Output, startMs: number, stopAt: Date, timeout: string): void {
  const spanMs = stopAt.getTime() - startMs;
  if (spanMs < parseDuration(timeout) - TOLERANCE_MS)
    output.warn(
      `${timeout} is more than the server allows: the sandbox ends in ${formatSpan(spanMs)}. To let it live on in time: caisson extend`,
    );
}

/** The same for a sandbox that was created with the time-out. */
export async function checkLifetime(output: Output, client: Client, id: string, timeout: string): Promise<void> {
  if (parseDuration(timeout) <= parseDuration(USUAL_LIMIT)) return;
  const sandbox = await client.sandboxes.get(id);
  if (sandbox?.stopAt) warnIfShorter(output, sandbox.createdAt.getTime(), sandbox.stopAt, timeout);
}
