import type { SessionEnd } from "@caisson/protocol/session-frames";
import { statusOf } from "../processes/start-program.ts";

/** How a program ended, as SSH says it. */
export async function endOfProgram(child: Deno.ChildProcess): Promise<SessionEnd> {
  const { code, signal } = await statusOf(child);
  return { code, signal: signal === null ? null : signal.replace(/^SIG/, "") };
}

/** Delivers a signal by its name without `SIG` to a program and its group. One that has ended, or a name that is none, does nothing. */
export function signalGroup(child: Deno.ChildProcess, name: string): void {
  try {
    Deno.kill(-child.pid, `SIG${name}` as Deno.Signal);
  } catch (error) {
    const isExpected = error instanceof Deno.errors.NotFound || error instanceof TypeError;
    if (!isExpected) throw error;
  }
}
