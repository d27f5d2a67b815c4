import { isDoneWithin } from "@caisson/linux";
import type { AppContext } from "../context.ts";
import type { LiveSandbox } from "./live-sandboxes.ts";
import { endSandbox } from "./sandbox-end.ts";

/** How long creations may take to be undone, and then the ends of sandboxes, each, when the server ends. */
const SHUTDOWN_WAIT_MS = 15_000;

/**
 * Ends what ends with the server: what is being created, what runs on its own host, and sessions, whose creators are cut off. What runs for a time, or was extended, on another machine goes on, and
 * is taken up by the next start. Waits for every end, but not for one that keeps failing, nor for a creation whose
 * node does not answer: the next start closes the row.
 */
export async function endAllSandboxes(app: AppContext, waitMs = SHUTDOWN_WAIT_MS): Promise<void> {
  const undone = app.live.refuseMore().then(() => true);
  await isDoneWithin(undone, waitMs);
  const nowMs = Date.now();
  const endsHere = ({ record, mode, ending, keepUntilMs }: LiveSandbox): boolean => {
    if (record.owner.nodeId === app.nodes.ownId) return true;
    const isOver = ending !== null || (mode === "session" && keepUntilMs <= nowMs);
    return isOver && app.nodes.find(record) !== null;
  };
  const [ending, staying] = [app.live.all().filter(endsHere), app.live.all().filter((live) => !endsHere(live))];
  for (const { timer } of staying) if (timer !== null) clearTimeout(timer);
  const ends = ending.map((live) => endSandbox(app, live, "server-stopped"));
  await isDoneWithin(
    Promise.all(ends).then((all) => all.every(Boolean)),
    waitMs,
  );
}
