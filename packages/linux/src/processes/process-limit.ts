import { callSync } from "../calls/ffi.ts";
import { hasErrorCode } from "../calls/kernel-error.ts";

const RLIMIT_NPROC = 6;
const KEEP = -1;
const [SETRESUID, SETRESGID] = process.arch === "arm64" ? [147, 149] : [117, 119];

/**
 * Lowers how many processes the user of these processes may have before they can make no more (`ulimit -u`). The kernel lets a thread do that to
 * processes whose ids are its own real ones, or with a capability that servers in containers lack; so this thread, and no other of its process, has
 * the ids for a moment. Its effective ids, and with them its capabilities, stay.
 */
export function limitProcessesSync(pids: readonly number[], ownerId: number, count: number): void {
  const limit = Buffer.alloc(16);
  limit.writeBigUInt64LE(BigInt(count), 0);
  limit.writeBigUInt64LE(BigInt(count), 8);
  setRealIds(ownerId);
  try {
    for (const pid of pids) lower(pid, limit);
  } finally {
    setRealIds(0);
  }
}

/** One that is gone makes no more processes. */
function lower(pid: number, limit: Buffer): void {
  try {
    callSync("prlimit", [pid, RLIMIT_NPROC, limit, null], { name: "prlimit", detail: `process ${pid}` });
  } catch (error) {
    if (!hasErrorCode(error, "ESRCH")) throw error;
  }
}

/** By the system calls themselves, since the C library would do it to all threads. */
function setRealIds(id: number): void {
  for (const number of [SETRESGID, SETRESUID])
    callSync("setresid", [number, id, KEEP, KEEP], { name: "setresuid", detail: String(id) });
}
