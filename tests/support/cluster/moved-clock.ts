import { readFileSync } from "node:fs";

/**
 * Loaded into a server's or node's process before everything else (`--import`): its clock, `Date`, is off by as many milliseconds as the file in CAISSON_TEST_CLOCK says, also when that changes. Timers
 * and the clock of TLS libraries stay as they are.
 */
const path = process.env.CAISSON_TEST_CLOCK;
const RealDate = Date;
let offsetMs = 0;

function look(): void {
  if (path === undefined) return;
  try {
    offsetMs = Number(readFileSync(path, "utf8")) || 0;
  } catch {
    offsetMs = 0;
  }
}

look();
if (path !== undefined) setInterval(look, 200).unref();

const now = (): number => RealDate.now() + offsetMs;
globalThis.Date = new Proxy(RealDate, {
  construct: (target, args, newTarget) =>
    Reflect.construct(target, args.length === 0 ? [now()] : args, newTarget) as object,
  apply: () => new RealDate(now()).toString(),
  get: (target, property, receiver) => (property === "now" ? now : Reflect.get(target, property, receiver)),
});
