import { setTimeout as delay } from "node:timers/promises";
import { formatSize } from "@caisson/model";
import type { Client, SnapshotFetch } from "@caisson/sdk";
import type { SingleBar } from "cli-progress";
import type { Output } from "./output/output.ts";
import { createProgressBar } from "./output/progress-bar.ts";

/** What is quick shows nothing. */
const LOOK_INTERVAL_MS = 1_000;

/**
 * Does work that uses a snapshot (by id or slug; `undefined`: none), and shows meanwhile how far the snapshot is on its way back from the snapshot store, when it has
 * to come back first and somebody watches.
 */
export async function showingFetch<T>(
  output: Output,
  client: Client,
  snapshot: string | undefined,
  work: () => Promise<T>,
): Promise<T> {
  if (snapshot === undefined || !output.isWatched) return await work();
  const done = new AbortController();
  const shown = show(client, snapshot, done.signal);
  try {
    return await work();
  } finally {
    done.abort();
    await shown;
  }
}

/** How far it is, in words. */
export function describeFetch({ done, total }: SnapshotFetch): string {
  if (total === null) return "waiting for the snapshot store";
  const percent = total === 0 ? 100 : Math.floor((100 * done) / total);
  return `coming back from the snapshot store: ${percent}%, ${formatSize(done)} of ${formatSize(total)}`;
}

/** Whatever fails here is told by the work itself, or does not matter. */
async function show(client: Client, name: string, signal: AbortSignal): Promise<void> {
  let bar: SingleBar | null = null;
  try {
    for (;;) {
      await delay(LOOK_INTERVAL_MS, undefined, { signal });
      const fetch = (await client.snapshots.get(name, { signal }))?.fetch ?? null;
      if (fetch === null) {
        bar?.stop();
        bar = null;
      } else if (bar !== null) {
        if (fetch.total !== null) bar.setTotal(fetch.total);
        bar.update(fetch.done, { fetch });
      } else {
        bar = createBar();
        bar.start(fetch.total ?? 1, fetch.done, { fetch });
      }
    }
  } catch {
    bar?.stop();
  }
}

function createBar(): SingleBar {
  return createProgressBar<{ readonly fetch: SnapshotFetch }>((bar, _, { fetch }) => `${bar} ${describeFetch(fetch)}`);
}
