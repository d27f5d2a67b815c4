import type { SandboxRecord } from "@caisson/database";
import type { ExitCause, SandboxEnd } from "@caisson/node";
import type { AppContext } from "../context.ts";
import type { LiveSandbox } from "./live-sandboxes.ts";
import { endAt, endSandbox } from "./sandbox-end.ts";

/** A sandbox that runs, whose end can be asked for. */
export interface RunningSandbox {
  readonly record: SandboxRecord;
  readonly volumeIds: readonly string[];
  /** Gives back all that it has; after a failure it goes on where it stopped. */
  readonly release: () => Promise<SandboxEnd>;
}

/** Makes a sandbox known as live: from here on its end gives everything back. Nothing in here can fail. */
export function goLive(app: AppContext, { record, volumeIds, release }: RunningSandbox): LiveSandbox {
  const { promise: ended, resolve: markEnded } = Promise.withResolvers<void>();
  const { promise: exited, resolve: markExited } = Promise.withResolvers<ExitCause>();
  const live: LiveSandbox = {
    record,
    exited,
    markExited,
    volumeIds,
    async release() {
      live.damages = (await release()).damages;
    },
    damages: [],
    mode: record.stopAtMs === null ? "session" : "duration",
    keepUntilMs: record.keepUntilMs ?? 0,
    timer: null,
    ending: null,
    ended,
    markEnded,
  };
  app.live.add(live);
  if (record.stopAtMs !== null) endAt(app, live, record.stopAtMs, "timeout");
  // A sandbox whose first process is gone has nothing left to do, whatever its mode.
  void exited.then((cause) => endSandbox(app, live, cause));
  return live;
}
