import { fdatasyncSync } from "node:fs";
import { DatabaseSync } from "node:sqlite";
import { parentPort } from "node:worker_threads";
import type { LogProblem, LogWork } from "./log-sync.ts";

/** A thread that may wait for the disk. */
parentPort?.on("message", (work: LogWork) => {
  const answer = (problem: LogProblem): void => parentPort?.postMessage(problem);
  try {
    if (work.kind === "sync") fdatasyncSync(work.fd);
    else moveLog(work.path);
    answer(null);
  } catch (error) {
    answer(String(error));
  }
});

/** A log of so many pages, 64 MB, is moved whole, however many commits come meanwhile: they wait, once and for as long as `BUSY_TIMEOUT_MS`. */
const PAGES_MAX = 16_384;
/** Each moves what came during the one before it, so they get shorter. SQLite begins a log from its start only when all of it was moved. */
const TRIES = 5;
const BUSY_TIMEOUT_MS = 1_000;

/** Moves the log into the database. Commits go on meanwhile. Throws where a long log cannot be moved whole. */
function moveLog(path: string): void {
  const database = new DatabaseSync(path, { timeout: BUSY_TIMEOUT_MS });
  try {
    let mode = "PASSIVE";
    for (let left = TRIES; left > 0; left -= 1) {
      const { log, checkpointed } = database.prepare(`PRAGMA wal_checkpoint(${mode})`).get() ?? {};
      if (Number(checkpointed) >= Number(log)) return;
      if (Number(log) <= PAGES_MAX) continue;
      if (mode === "RESTART")
        throw new Error(`another program has been reading the database for long, which keeps ${log} pages of its log`);
      mode = "RESTART";
    }
  } finally {
    database.close();
  }
}
