import { constants } from "node:os";
import { isMainThread } from "node:worker_threads";
import { callSync } from "../calls/ffi.ts";

const WNOHANG = 1;
/** Keeps this process alive while it waits for one, as Node's own children do, and finds an end whose signal was lost. */
const LOOK_MS = 5_000;

/** How a program ended: by itself, or by a signal. */
export interface ProgramEnd {
  readonly exitCode: number | null;
  readonly signal: NodeJS.Signals | null;
}

/** What waits for the children that Node does not know of, by process id. */
const waiting = new Map<number, (end: ProgramEnd) => void>();
let timer: NodeJS.Timeout | null = null;
let isListening = false;
const status = Buffer.alloc(4);

/** Waits for a child that Node has not started. Its id is nobody else's until it is waited for, which happens here, so that `kill` cannot miss. Only for the main thread, which alone has signals. */
export function watchChild(pid: number): { readonly ended: Promise<ProgramEnd>; kill(signal: NodeJS.Signals): void } {
  if (!isMainThread) throw new Error("Only the main thread can wait for programs");
  if (!isListening) process.on("SIGCHLD", look);
  isListening = true;
  const { promise, resolve } = Promise.withResolvers<ProgramEnd>();
  waiting.set(pid, resolve);
  timer ??= setInterval(look, LOOK_MS);
  // It may have ended before.
  lookAt(pid, resolve);
  return {
    ended: promise,
    kill(signal) {
      if (waiting.has(pid)) process.kill(pid, signal);
    },
  };
}

/** One signal may stand for several ends. */
function look(): void {
  for (const [pid, resolve] of waiting) lookAt(pid, resolve);
}

function lookAt(pid: number, resolve: (end: ProgramEnd) => void): void {
  if (callSync("waitpid", [pid, status, WNOHANG], { name: "waitpid", detail: `for ${pid}` }) === 0) return;
  waiting.delete(pid);
  resolve(endOf(status.readInt32LE(0)));
  if (waiting.size > 0 || timer === null) return;
  clearInterval(timer);
  timer = null;
}

/** Reads a status of wait(2). */
function endOf(status: number): ProgramEnd {
  const killedBy = status & 0x7f;
  if (killedBy === 0) return { exitCode: (status >> 8) & 0xff, signal: null };
  const [signal = "SIGKILL"] = Object.entries(constants.signals).find(([, number]) => number === killedBy) ?? [];
  return { exitCode: null, signal: signal as NodeJS.Signals };
}
