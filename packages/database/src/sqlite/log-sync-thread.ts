import { fdatasyncSync } from "node:fs";
import { parentPort } from "node:worker_threads";
import type { SyncOutcome } from "./log-sync.ts";

/** A thread that may wait for the disk. */
parentPort?.on("message", (fd: number) => {
  const answer = (problem: string | null): void => parentPort?.postMessage({ fd, problem } satisfies SyncOutcome);
  try {
    fdatasyncSync(fd);
    answer(null);
  } catch (error) {
    answer(String(error));
  }
});
