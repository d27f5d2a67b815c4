import { readFile } from "node:fs/promises";
import { totalmem } from "node:os";

import { readCgroups } from "@caisson/linux";
import { formatSize } from "@caisson/model";
import {
  countPlaces,
  type HostLimit,
  type HostPlaces,
  HostShares,
  hostPlaces,
  PLACES_DEFAULT,
  readLimitsInReach,
  readProcessLimit,
  readTerminalLimit,
} from "@caisson/runtime";
import { type NodePlaces, sandboxPlaces } from "../app/sandboxes/sandbox-places.ts";
import type { NetworkConfig, SandboxLimitsConfig } from "../config.ts";
import { type Check, ok, warning } from "./check.ts";

/** So many sandboxes should be able to use their limit at a time. */
const FULL_SANDBOXES_GOOD = 16;
const TERMINALS_EACH_GOOD = 4;
/** What the agent of a sandbox and the kernel take, as measured (bench/many.ts). */
const IDLE_SANDBOX_BYTES = 20 * 2 ** 20;
/** A running sandbox holds about eight descriptors of the server, and each connection to it two. */
const DESCRIPTORS_EACH = 12;
const DESCRIPTORS_RESERVE = 1024;

/** Limits of the whole host that sandboxes share, and how many places they leave. */
export async function checkHostLimits(
  sandboxes: SandboxLimitsConfig,
  network: NetworkConfig,
): Promise<readonly Check[]> {
  const processes = await readProcessLimit(await readCgroups());
  const places = hostPlaces(sandboxes.max, await countPlaces(network.subnet), processes);
  return [
    judgePlaces(sandboxPlaces(sandboxes, places.count), sandboxes.max, places),
    judgeMemory(sandboxes, totalmem()),
    judgeProcesses(processes, sandboxes.pidsMax, places.count),
    judgeTerminals(await readTerminalLimit(), places.count),
    judgeDescriptors(await readDescriptorLimit(), places.count),
    judgeUndivided(await readLimitsInReach()),
  ];
}

/** Tells how many sandboxes there are places for, and how they are shared. */
export function judgePlaces(
  { total, kept, keptEach, perOrganization }: NodePlaces,
  wanted: number,
  { bound }: HostPlaces,
): Check {
  const each = `${Math.min(perOrganization, total)} for one organization`;
  const shared = `the last ${kept} for organizations with fewer than ${keptEach}, where there are several`;
  const found = `${total}, ${each}, ${kept === 0 ? "none kept for others" : shared}`;
  if (bound === null) return ok("places for sandboxes", found);
  return warning("places for sandboxes", found, `sandboxes.max is ${wanted}, but ${bound}`);
}

/** Whether as many sandboxes as the settings ask for would fit in half of the memory with nothing but their agents. Nobody asks for the default. */
export function judgeMemory({ max }: Pick<SandboxLimitsConfig, "max">, totalBytes: number): Check {
  const needed = max <= PLACES_DEFAULT ? 0 : max * IDLE_SANDBOX_BYTES;
  const found = `${formatSize(totalBytes)}; a sandbox takes about ${formatSize(IDLE_SANDBOX_BYTES)} before its programs run`;
  if (needed <= totalBytes / 2) return ok("memory for sandboxes", found);
  return warning(
    "memory for sandboxes",
    found,
    `${max} sandboxes (sandboxes.max) take ${formatSize(needed)} with nothing in them: lower the setting, or add memory`,
  );
}

async function readDescriptorLimit(): Promise<number> {
  const limits = await readFile("/proc/self/limits", "utf8");
  return Number(/^Max open files\s+\S+\s+(\d+)/m.exec(limits)?.[1] ?? 0);
}

export function judgeDescriptors(hard: number, places: number): Check {
  const good = DESCRIPTORS_RESERVE + DESCRIPTORS_EACH * places;
  if (hard >= good) return ok("open files", `up to ${hard}`);
  return warning(
    "open files",
    `up to ${hard} for the server`,
    `Raise the limit to ${good} or more for ${places} sandboxes (ulimit -Hn, LimitNOFILE=)`,
  );
}

export function judgeProcesses({ total, setting }: HostLimit, pidsMax: number, places: number): Check {
  const shares = new HostShares(total, places);
  const least = Math.min(shares.guaranteed, pidsMax);
  const found = `${total} for sandboxes: ${shares.take(pidsMax).count} for the first, at least ${least} for each of ${places}`;
  if (total >= FULL_SANDBOXES_GOOD * pidsMax || least === pidsMax) return ok("processes", found);
  const wanted = setting === "kernel.pid_max" ? 4_194_304 : 2 * FULL_SANDBOXES_GOOD * pidsMax;
  const remedy = setting.startsWith("kernel.")
    ? `Raise the host's limit: sysctl ${setting}=${wanted}`
    : `Raise the ${setting}`;
  return warning("processes", `${found} (${setting})`, `${remedy}; or give each sandbox fewer (sandboxes.pids)`);
}

export function judgeTerminals({ total, setting }: HostLimit, places: number): Check {
  const each = new HostShares(total, places).guaranteed;
  const found = `${total} for sandboxes, at least ${each} for each of ${places}`;
  if (each >= TERMINALS_EACH_GOOD) return ok("terminals", found);
  return warning(
    "terminals",
    found,
    `Raise the host's limit: sysctl ${setting}=${Math.max(4096, 4 * TERMINALS_EACH_GOOD * places)}`,
  );
}

export function judgeUndivided(inReach: readonly string[]): Check {
  if (inReach.length === 0) return ok("open files and asynchronous I/O of the host", "more than memory holds");
  return warning(
    "open files and asynchronous I/O of the host",
    `one sandbox can take all that the host allows (${inReach.join(", ")})`,
    `The server raises these limits when it starts; where it may not: sysctl ${inReach.map((setting) => `${setting}=${2n ** 63n - 1n}`).join(" ")}`,
  );
}
