import { appendFileSync, readFileSync } from "node:fs";
import { isMainThread } from "node:worker_threads";

/**
 * Fault injection. Every kernel call and every step of a multi-step change passes a fault point with a stable tag, so that a test
 * can make exactly that point fail, wait, or kill the process. The plan is a text file named by `CAISSON_FAULT_PLAN`; without
 * that variable a fault point costs one comparison and does nothing.
 *
 * Each line of the plan is `<tag> <occurrence> <action>`; occurrences count from 1 since the plan last changed, in each thread, and the action is
 * `kill`, `fail:<ERRNO>`, `delay:<milliseconds>`, or `wait`, which lasts until the plan changes and is ignored where code cannot wait. Points that
 * are passed are appended to the file named by `CAISSON_FAULT_TRACE`.
 */
const planPath = process.env.CAISSON_FAULT_PLAN;
const tracePath = process.env.CAISSON_FAULT_TRACE;
const WAIT_INTERVAL_MS = 10;

/** An error that a test asked for. Carries an errno name in `code`, as the kernel's own errors do. */
export class InjectedFault extends Error {
  readonly code: string;

  constructor(tag: string, code: string) {
    super(`${code}: injected at ${tag}`);
    this.name = "InjectedFault";
    this.code = code;
  }
}

let planText = "";
let passed = new Map<string, number>();

/** Passes the fault point `tag`: returns at once unless the test's plan says otherwise. */
export async function faultPoint(tag: string): Promise<void> {
  const action = planned(tag);
  if (action === "wait") return untilPlanChanges(planText);
  const delayMs = act(tag, action);
  if (delayMs > 0) await new Promise((resolve) => setTimeout(resolve, delayMs));
}

/** The same for code that cannot wait: on the main thread a delay is ignored. */
export function faultPointSync(tag: string): void {
  actSync(tag, planned(tag));
}

/** Looks now what the plan says of these points, and returns what passes one of them later: where the thread will be, it could not read the plan. */
export function foreseeFaultPoints<Tag extends string>(tags: readonly Tag[]): (tag: Tag) => void {
  const actions = new Map(tags.map((tag) => [tag, planned(tag)]));
  return (tag) => actSync(tag, actions.get(tag) ?? null);
}

/** What the plan says of this passing; null: nothing. */
function planned(tag: string): string | null {
  if (planPath === undefined) return null;
  const text = readFileSync(planPath, "utf8");
  if (text !== planText) {
    planText = text;
    passed = new Map();
  }
  const occurrence = (passed.get(tag) ?? 0) + 1;
  passed.set(tag, occurrence);
  if (tracePath !== undefined) appendFileSync(tracePath, `${tag} ${occurrence}\n`);
  for (const line of text.split("\n")) {
    const [plannedTag, plannedOccurrence, action] = line.trim().split(/\s+/);
    if (plannedTag === tag && Number(plannedOccurrence) === occurrence && action !== undefined) return action;
  }
  return null;
}

async function untilPlanChanges(text: string): Promise<void> {
  while (planPath !== undefined && readFileSync(planPath, "utf8") === text)
    await new Promise((resolve) => setTimeout(resolve, WAIT_INTERVAL_MS));
}

/** Fails or kills where the plan says so. Returns how long it says to wait. */
function act(tag: string, action: string | null): number {
  if (action === null) return 0;
  if (action === "kill") process.kill(process.pid, "SIGKILL");
  if (action.startsWith("fail:")) throw new InjectedFault(tag, action.slice("fail:".length));
  return action.startsWith("delay:") ? Number(action.slice("delay:".length)) : 0;
}

function actSync(tag: string, action: string | null): void {
  const delayMs = act(tag, action);
  if (delayMs > 0 && !isMainThread) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, delayMs);
}

/** Runs one step between two fault points, `<tag>:before` and `<tag>:after`, so that a crash on either side can be tested. */
export async function step<T>(tag: string, run: () => T | Promise<T>): Promise<T> {
  await faultPoint(`${tag}:before`);
  const result = await run();
  await faultPoint(`${tag}:after`);
  return result;
}
