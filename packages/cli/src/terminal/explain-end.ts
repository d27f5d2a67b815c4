import type { StopReason } from "@caisson/model";
import type { Client } from "@caisson/sdk";
import { CliError } from "../cli-error.ts";
import { loadSdk } from "../context.ts";
import { EXIT } from "../exit-codes.ts";
import { formatTime } from "../output/format.ts";

/** What the server records as the reason of an end, for people. */
const REASONS: Readonly<Record<StopReason, string>> = {
  killed: "somebody ended it",
  timeout: "its time was up",
  "primary-left": "the command that created it is gone",
  exited: "its first process ended",
  "out-of-memory": "it ran out of memory; give the next one more with --memory",
  "start-failed": "it could not be started",
  cancelled: "the command that created it is gone",
  "server-stopped": "the server was stopped",
  "server-restart": "the server was started anew",
  "node-lost": "the machine that it ran on, or the server there, was started anew",
};

/** Runs an action on open sandboxes. When one of them ends meanwhile, the error says which, when and why. */
export async function explainEnd<T>(
  client: Client,
  ids: string | readonly string[],
  action: () => Promise<T>,
): Promise<T> {
  try {
    return await action();
  } catch (error) {
    const { ConnectionClosedError } = await loadSdk();
    if (!(error instanceof ConnectionClosedError)) throw error;
    const [only, ...others] = [ids].flat();
    if (only === undefined) throw error;
    if (others.length === 0 && error.stoppedAt !== null) throw endOf(only, error.stoppedAt, error.stopReason);
    for (const id of [only, ...others]) {
      // A server that cannot be asked is what closed the connection.
      const sandbox = await client.sandboxes.get(id).catch(() => null);
      if (sandbox === null) throw error;
      if (sandbox.status !== "running") throw endOf(id, sandbox.stoppedAt, sandbox.stopReason);
    }
    const message =
      others.length === 0
        ? `The connection to sandbox ${only} broke; it runs on`
        : `A connection to a sandbox broke; ${[only, ...others].join(" and ")} run on`;
    throw new CliError("CONNECTION_LOST", EXIT.backend, message, `Connect to it again: caisson shell ${only}`);
  }
}

/** The error for a sandbox that ended; `stoppedAt` is `null` while its end is under way. */
function endOf(id: string, stoppedAt: Date | null, stopReason: string | null): CliError {
  const time = stoppedAt === null ? "just now" : `at ${formatTime(stoppedAt)} UTC`;
  const reason = stopReason === null ? "for an unknown reason" : reasonText(stopReason);
  const hint =
    stopReason === "timeout"
      ? "Give the next one longer with --timeout, or let it live on in time: caisson extend SANDBOX-ID 20m"
      : "Create another one: caisson create";
  return new CliError("SANDBOX_ENDED", EXIT.backend, `Sandbox ${id} ended ${time}: ${reason}`, hint);
}

/** A newer server may know reasons of its own. */
function reasonText(stopReason: string): string {
  const known: Readonly<Record<string, string>> = REASONS;
  return known[stopReason] ?? stopReason;
}
