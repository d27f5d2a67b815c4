import type { HostLimit } from "./host-limits.ts";
import { HostShares } from "./host-shares.ts";

/** Processes and threads that a sandbox needs in any case: those of the agent, and of a few programs. */
export const PROCESSES_EACH_MIN = 32;

/** How many sandboxes may run at a time. */
export interface HostPlaces {
  readonly count: number;
  /** Why there are not as many as were wanted, and what to do, as the end of a sentence; null: there are. */
  readonly bound: string | null;
}

/** As many places as are wanted, or as there are addresses and process ids for. */
export function hostPlaces(wanted: number, addresses: number, processes: HostLimit): HostPlaces {
  const byProcesses = HostShares.placesFor(processes.total, PROCESSES_EACH_MIN);
  const count = Math.max(1, Math.min(wanted, addresses, byProcesses));
  if (count >= wanted) return { count, bound: null };
  if (byProcesses <= addresses)
    return { count, bound: `the host has process ids for ${count} (${processes.setting}), which can be raised` };
  return {
    count,
    bound: `there are addresses for ${count}; network.subnet can name a larger network, unless other servers on this host have the rest`,
  };
}
