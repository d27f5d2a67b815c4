import { readFileSync, writeFileSync, writeSync } from "node:fs";
import { faultPoint } from "@caisson/linux";
import type { ClassStorage } from "../src/classes/class-storage.ts";
import { LocalStorage } from "../src/local/local-storage.ts";
import { SpreadStorage } from "../src/spread/spread-storage.ts";
import { openTwoClasses } from "./class-test-pool.ts";
import { callDriver, type DriverCall } from "./driver-call.ts";
import { type CrashSetting, findDebris } from "./local-test-pool.ts";

/**
 * The process that the crash tests kill: opens a pool, runs one operation under a plan of faults, and reports. Where the operation fails, it
 * is tried once more, without faults, as a caller would.
 */
const [configuration = "", requestPath = ""] = process.argv.slice(2);
const { options, images } = JSON.parse(configuration) as CrashSetting;
const { call, plan } = JSON.parse(readFileSync(requestPath, "utf8")) as { call: DriverCall; plan: string };

await using resources = new AsyncDisposableStack();
const storage = resources.use(await openStorage(options));
const run = (): Promise<void> => callDriver(storage, call);

// Counting starts anew with every change of the plan, so the points of opening the pool do not count.
const planPath = process.env.CAISSON_FAULT_PLAN ?? "";
writeFileSync(planPath, `${plan}\noperation:begun 1 delay:0\n`);
await faultPoint("operation:start");
try {
  await run();
} catch (error) {
  report(`error ${String(error).replaceAll("\n", " ")}`);
  report(`debris ${(await findDebris(images)).join(" ")}`);
  await run();
}
report("done");
await faultPoint("operation:end");
writeFileSync(planPath, "");

/** What a start does in the background is no part of the operation, and done when this resolves. */
async function openStorage(given: CrashSetting["options"]): Promise<LocalStorage | SpreadStorage | ClassStorage> {
  const onProblem = (_directory: string, problem: string): void => report(`error ${problem}`);
  if ("replicated" in given) return openTwoClasses(given, onProblem);
  const storage = "disks" in given ? await SpreadStorage.open({ ...given, onProblem }) : await LocalStorage.open(given);
  await storage.sparesMade();
  return storage;
}

/** Written at once: the process may be killed at the next step. */
function report(line: string): void {
  writeSync(1, `${line}\n`);
}
