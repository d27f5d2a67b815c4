import process from "node:process";
import { parseDurationMs } from "../core/limits.ts";
import type { Connected } from "./connect.ts";
import type { SandboxOptions } from "./options.ts";

/** Clocks do not run at quite the same speed, and the server tells its own to the second. */
const TOLERANCE_MS = 2_000;

/**
 * Reports a new sandbox whose end is earlier than was asked for. Both times are of the server's clock, which need not agree with ours; the
 * time that creating took, by ours, is granted to it.
 */
export function reportShortened(options: SandboxOptions, { stopAt, answeredAt }: Connected, elapsedMs: number): void {
  const { timeout = "session", onShortened } = options;
  if (timeout === "session" || stopAt === null) return;
  const spanMs = stopAt.getTime() - answeredAt.getTime() + elapsedMs;
  const isShorter = spanMs < parseDurationMs(timeout) - TOLERANCE_MS;
  if (!isShorter) return;
  const warn = (): void => {
    const text = `${timeout} is more than the server allows: the sandbox ends at ${stopAt.toISOString()}`;
    process.emitWarning(`${text}. Pass onShortened to handle this`, { type: "CaissonWarning" });
  };
  (onShortened ?? warn)(stopAt);
}
