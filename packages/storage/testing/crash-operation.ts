import { readFileSync, writeFileSync, writeSync } from "node:fs";
import { faultPoint } from "@caisson/linux";
import { LocalStorage } from "../src/local/local-storage.ts";
import { SpreadStorage } from "../src/spread/spread-storage.ts";
import { callDriver, type DriverCall } from "./driver-call.ts";
import { type CrashSetting, findDebris } from "./local-test-pool.ts";

/**
 * The process that the crash tests kill: opens a pool, runs one operation under a plan of faults, and reports. Where the operation fails, it
 * is tried once more, without faults, as a caller would.
 */
const [configuration = "", requestPath = ""] = process.argv.slice(2);
const { options, images } = JSON.parse(configuration) as CrashSetting;
const { call, plan } = JSON.parse(readFileSync(requestPath, "utf8")) as { call: DriverCall; plan: string };

await using storage = await openStorage(options);
// What a start does in the background is no part of the operation.
await storage.sparesMade();
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

function openStorage(given: CrashSetting["options"]): Promise<LocalStorage | SpreadStorage> {
  if (!("disks" in given)) return LocalStorage.open(given);
  return SpreadStorage.open({ ...given, onProblem: (_directory, problem) => report(`error ${problem}`) });
}

/** Written at once: the process may be killed at the next step. */
function report(line: string): void {
  writeSync(1, `${line}\n`);
}
