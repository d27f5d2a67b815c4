import { fdatasyncSync } from "node:fs";
import { parentPort } from "node:worker_threads";
import type { SyncProblem } from "./log-sync.ts";

/** A thread that may wait for the disk. */
parentPort?.on("message", (fd: number) => {
  const answer = (problem: SyncProblem): void => parentPort?.postMessage(problem);
  try {
    fdatasyncSync(fd);
    answer(null);
  } catch (error) {
    answer(String(error));
  }
});
