import { readFileSync, writeFileSync, writeSync } from "node:fs";
import { faultPoint } from "@caisson/linux";
import { CephStorage } from "../src/ceph/ceph-storage.ts";
import type { ClassStorage } from "../src/classes/class-storage.ts";
import { LocalStorage } from "../src/local/local-storage.ts";
import { SpreadStorage } from "../src/spread/spread-storage.ts";
import { findCephDebris, openObserver } from "./ceph/ceph-test-pool.ts";
import { openTwoClasses } from "./class-test-pool.ts";
import type { CrashSetting } from "./crash-command.ts";
import { callDriver, type DriverCall } from "./driver-call.ts";
import { findDebris } from "./local-test-pool.ts";

/**
 * The process that the crash tests kill: opens a pool, runs one operation under a plan of faults, and reports. Where the operation fails, it
 * is tried once more, without faults, as a caller would.
 */
const [configuration = "", requestPath = ""] = process.argv.slice(2);
const setting = JSON.parse(configuration) as CrashSetting;
const { call, plan } = JSON.parse(readFileSync(requestPath, "utf8")) as { call: DriverCall; plan: string };

await using resources = new AsyncDisposableStack();
const storage = resources.use(await openStorage());
const run = (): Promise<void> => callDriver(storage, call);

// Counting starts anew with every change of the plan, so the points of opening the pool do not count.
const planPath = process.env.CAISSON_FAULT_PLAN ?? "";
writeFileSync(planPath, `${plan}\noperation:begun 1 delay:0\n`);
await faultPoint("operation:start");
try {
  await run();
} catch (error) {
  report(`error ${String(error).replaceAll("\n", " ")}`);
  report(`debris ${(await findRemains()).join(" ")}`);
  await run();
}
report("done");
await faultPoint("operation:end");
writeFileSync(planPath, "");

/** What a start does in the background is no part of the operation, and done when this resolves. */
async function openStorage(): Promise<LocalStorage | SpreadStorage | ClassStorage | CephStorage> {
  const onProblem = (_directory: string, problem: string): void => report(`error ${problem}`);
  if (setting.kind === "ceph") return CephStorage.open(setting.options);
  if (setting.kind === "classes") return openTwoClasses(setting.options, onProblem);
  const isSpread = setting.kind === "spread";
  const opened = isSpread ? SpreadStorage.open({ ...setting.options, onProblem }) : LocalStorage.open(setting.options);
  const storage = await opened;
  await storage.sparesMade();
  return storage;
}

async function findRemains(): Promise<readonly string[]> {
  if (setting.kind !== "ceph") return findDebris(setting.images);
  const observer = await openObserver(setting.options);
  try {
    return await findCephDebris(observer);
  } finally {
    await observer.close();
  }
}

/** Written at once: the process may be killed at the next step. */
function report(line: string): void {
  writeSync(1, `${line}\n`);
}
