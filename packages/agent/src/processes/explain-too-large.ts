import { MAX_VARIABLE_BYTES, TEXT_OVERHEAD_BYTES } from "@caisson/protocol/variable";
import { errnoError } from "../calls/errors.ts";
import { environmentBytes } from "./environment.ts";

/** A quarter of the usual limit of a stack: what execve(2) takes. */
const ROOM_BYTES = 2 * 2 ** 20;

/** The error to show for a start that failed: of the kernel's E2BIG, what was too large and what to do; else the error itself. */
export function explainTooLarge(
  error: unknown,
  command: string,
  args: readonly string[],
  env: Readonly<Record<string, string>>,
): unknown {
  if (!(error instanceof Error && /\(os error 7\)/.test(error.message))) return error;
  const sizes = args.map((arg) => new TextEncoder().encode(arg).length);
  const largest = sizes.reduce((a, b) => Math.max(a, b), 0);
  const start = `start ${JSON.stringify(command.slice(0, 64))}`;
  if (largest > MAX_VARIABLE_BYTES) {
    const reason = `argument ${sizes.indexOf(largest) + 1} has ${largest} bytes, and the kernel hands at most ${MAX_VARIABLE_BYTES} in one`;
    return errnoError("E2BIG", `${start}: ${reason}. Write it to a file, or to the program's standard input`);
  }
  const argumentBytes = sizes.reduce((sum, size) => sum + size + TEXT_OVERHEAD_BYTES, 0);
  const reason = `its arguments take ${argumentBytes} bytes and its variables ${environmentBytes(env)}, together at most ${ROOM_BYTES} are possible`;
  return errnoError("E2BIG", `${start}: ${reason}. Write what is large to files`);
}
