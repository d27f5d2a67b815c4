import type { Client, SandboxDetails } from "@caisson/sdk";
import { CliError } from "../cli-error.ts";
import { loadSdk } from "../context.ts";
import { EXIT } from "../exit-codes.ts";
import { formatTime } from "../output/format.ts";

/** What the server records as the reason of an end, for people. */
const REASONS: Readonly<Record<string, string>> = {
  killed: "somebody ended it",
  timeout: "its time was up",
  "primary-left": "the command that created it is gone",
  exited: "its first process ended",
  "out-of-memory": "it ran out of memory; give the next one more with --memory",
  "server-stopped": "the server was stopped",
  "server-restart": "the server was started anew",
};

/** Runs an action on an open sandbox. When the sandbox ends meanwhile, the error says when and why. */
export async function explainEnd<T>(client: Client, id: string, action: () => Promise<T>): Promise<T> {
  try {
    return await action();
  } catch (error) {
    const { ConnectionClosedError } = await loadSdk();
    const closed = causes(error).find((cause) => cause instanceof ConnectionClosedError);
    if (closed === undefined) throw error;
    // A server that cannot be asked is what closed the connection.
    const sandbox = await client.sandboxes.get(id).catch(() => null);
    throw sandbox === null ? closed : endOf(sandbox);
  }
}

/** The error, or those that an error of the clean-up after it covers. */
function causes(error: unknown): readonly unknown[] {
  if (!(error instanceof SuppressedError)) return [error];
  return [...causes(error.suppressed), ...causes(error.error)];
}

function endOf({ id, status, stoppedAt, stopReason }: SandboxDetails): CliError {
  if (status === "running" || status === "starting") {
    const hint = `Connect to it again: caisson shell ${id}`;
    return new CliError("CONNECTION_LOST", EXIT.backend, `The connection to sandbox ${id} broke; it runs on`, hint);
  }
  const time = stoppedAt === null ? "just now" : `at ${formatTime(stoppedAt)} UTC`;
  const reason = stopReason === null ? "for an unknown reason" : (REASONS[stopReason] ?? stopReason);
  const hint =
    stopReason === "timeout"
      ? "Give the next one longer with --timeout, or let it live on in time: caisson extend SANDBOX-ID 20m"
      : "Create another one: caisson create";
  return new CliError("SANDBOX_ENDED", EXIT.backend, `Sandbox ${id} ended ${time}: ${reason}`, hint);
}
