import { readFile, writeFile } from "node:fs/promises";
import { hasErrorCode } from "../calls/kernel-error.ts";

const SETTING = "/sys/kernel/rcu_expedited";

let users = 0;
let isSet = false;
let change: Promise<void> = Promise.resolve();

/**
 * Runs a task while the kernel expedites its RCU grace periods. Freezing a file system waits for three of them, for most of that time with
 * writers standing still: 50 ms become 4. The setting is the host's, costs the other processors an interrupt for each grace period, and is
 * put back when the last task here ends. Where it cannot be written, or an administrator has set it already, the task just runs.
 */
export async function withExpeditedRcu<T>(task: () => Promise<T>): Promise<T> {
  users += 1;
  if (users === 1) change = change.then(set);
  await change;
  try {
    return await task();
  } finally {
    users -= 1;
    if (users === 0) change = change.then(restore);
    await change;
  }
}

async function set(): Promise<void> {
  if (isSet) return;
  isSet = (await readFile(SETTING, "utf8").catch(() => "1")).trim() === "0" && (await write("1"));
}

async function restore(): Promise<void> {
  // Another task may have begun while this one waited for its turn.
  if (users === 0 && isSet) isSet = !(await write("0"));
}

async function write(value: string): Promise<boolean> {
  try {
    await writeFile(SETTING, value);
    return true;
  } catch (error) {
    if (hasErrorCode(error, "ENOENT", "EACCES", "EPERM", "EROFS")) return false;
    throw error;
  }
}
