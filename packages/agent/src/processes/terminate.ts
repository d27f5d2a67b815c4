import { delay } from "../host/timers.ts";

const SIGTERM_BIT = 1n << 14n;
const POLL_MS = 10;
const INIT_PID = 1;

/**
 * Asks every process of the sandbox to end, as `docker stop` does, and waits at most `graceMs` for those that take the signal themselves, to
 * save their state. Who does not take it has ended by then, and who ignores it is not waited for. Does nothing where the agent is not the child
 * of a sandbox's init: there other people's processes would be met.
 */
export async function terminateAll(graceMs: number): Promise<void> {
  if (graceMs <= 0 || Deno.ppid !== INIT_PID) return;
  const deadline = performance.now() + graceMs;
  const pids = listOthers();
  const taking = new Set(pids.filter(takesTermination));
  for (const signal of ["SIGTERM", "SIGCONT"] as const) {
    for (const pid of pids) signalQuietly(pid, signal);
  }
  while (taking.size > 0 && performance.now() < deadline) {
    await delay(POLL_MS);
    for (const pid of taking) if (!takesTermination(pid)) taking.delete(pid);
  }
}

function listOthers(): number[] {
  const names = [...Deno.readDirSync("/proc")].map(({ name }) => Number(name));
  return names.filter((pid) => pid > INIT_PID && pid !== Deno.pid);
}

/** False also for a process that has ended, and for one that only waits to be reaped. */
function takesTermination(pid: number): boolean {
  try {
    const status = Deno.readTextFileSync(`/proc/${pid}/status`);
    const caught = /^SigCgt:\s*([0-9a-f]+)$/m.exec(status)?.[1] ?? "0";
    return !/^State:\s*[ZX]/m.test(status) && (BigInt(`0x${caught}`) & SIGTERM_BIT) !== 0n;
  } catch {
    return false;
  }
}

function signalQuietly(pid: number, signal: Deno.Signal): void {
  try {
    Deno.kill(pid, signal);
  } catch {
    // It has ended meanwhile.
  }
}
