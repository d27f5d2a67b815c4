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

/** Runs an action on an open sandbox. When the sandbox ends meanwhile, the error says when and why. */
export async function explainEnd<T>(client: Client, id: string, action: () => Promise<T>): Promise<T> {
  try {
    return await action();
  } catch (error) {
    const { ConnectionClosedError } = await loadSdk();
    if (!(error instanceof ConnectionClosedError)) throw error;
    if (error.stoppedAt !== null) throw endOf(id, error.stoppedAt, error.stopReason);
    // A server that cannot be asked is what closed the connection.
    const sandbox = await client.sandboxes.get(id).catch(() => null);
    if (sandbox === null) throw error;
    if (sandbox.status !== "running") throw endOf(id, sandbox.stoppedAt, sandbox.stopReason);
    const hint = `Connect to it again: caisson shell ${id}`;
    throw new CliError("CONNECTION_LOST", EXIT.backend, `The connection to sandbox ${id} broke; it runs on`, hint);
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
