import { constants } from "node:os";
import { getSystemErrorMessage, getSystemErrorName } from "node:util";

/** A kernel call that failed. `code` is the errno name (`EBUSY`), as in Node's own errors, so that both are handled alike. */
export class KernelError extends Error {
  readonly code: string;
  /** The positive errno number; 0 when the code has none on this platform. */
  readonly errno: number;
  /** The name of the call, for example `mount` or `ioctl FIFREEZE`. */
  readonly syscall: string;

  constructor(syscall: string, code: string, detail: string, options?: { readonly cause?: unknown }) {
    const errno = errnoNumber(code);
    super(`${syscall} ${detail}: ${code}${errno === 0 ? "" : `, ${getSystemErrorMessage(-errno)}`}`, options);
    this.name = "KernelError";
    this.code = code;
    this.errno = errno;
    this.syscall = syscall;
  }
}

/** The name of an errno number, for example `EBUSY` for 16: the one that Node uses where two names share a number (`ENOTSUP`, `EAGAIN`). */
export function errnoName(errno: number): string {
  const name = getSystemErrorName(-errno);
  if (/^E[A-Z0-9]+$/.test(name)) return name;
  return Object.entries(constants.errno).find(([, number]) => number === errno)?.[0] ?? `ERRNO_${errno}`;
}

function errnoNumber(code: string): number {
  return (constants.errno as Readonly<Record<string, number>>)[code] ?? 0;
}

/** Whether `error` is a system error with one of these codes, from a kernel call, from Node, or injected by a test. */
export function hasErrorCode(error: unknown, ...codes: readonly string[]): boolean {
  if (typeof error !== "object" || error === null || !("code" in error)) return false;
  return typeof error.code === "string" && codes.includes(error.code);
}
