import { readCgroups } from "@caisson/linux";
import {
  type HostLimit,
  HostShares,
  readLimitsInReach,
  readProcessLimit,
  readTerminalLimit,
  SANDBOXES_MAX,
} from "@caisson/runtime";
import type { SandboxLimitsConfig } from "../config.ts";
import { type Check, ok, warning } from "./check.ts";

/** So many sandboxes should be able to use their limit at a time. */
const FULL_SANDBOXES_GOOD = 16;
const TERMINALS_EACH_GOOD = 4;

/** Limits of the whole host that sandboxes share. */
export async function checkHostLimits({ pidsMax }: Pick<SandboxLimitsConfig, "pidsMax">): Promise<readonly Check[]> {
  return [
    judgeProcesses(await readProcessLimit(await readCgroups()), pidsMax),
    judgeTerminals(await readTerminalLimit()),
    judgeUndivided(await readLimitsInReach()),
  ];
}

export function judgeProcesses({ total, setting }: HostLimit, pidsMax: number): Check {
  const shares = new HostShares(total, SANDBOXES_MAX);
  const least = Math.min(shares.guaranteed, pidsMax);
  const found = `${total} for sandboxes: ${shares.take(pidsMax).count} for the first, at least ${least} for each of ${SANDBOXES_MAX}`;
  if (total >= FULL_SANDBOXES_GOOD * pidsMax || least === pidsMax) return ok("processes", found);
  const wanted = setting === "kernel.pid_max" ? 4_194_304 : 2 * FULL_SANDBOXES_GOOD * pidsMax;
  const remedy = setting.startsWith("kernel.")
    ? `Raise the host's limit: sysctl ${setting}=${wanted}`
    : `Raise the ${setting}`;
  return warning("processes", `${found} (${setting})`, `${remedy}; or give each sandbox fewer (sandboxes.pids)`);
}

export function judgeTerminals({ total, setting }: HostLimit): Check {
  const each = new HostShares(total, SANDBOXES_MAX).guaranteed;
  const found = `${total} for sandboxes, at least ${each} for each of ${SANDBOXES_MAX}`;
  if (each >= TERMINALS_EACH_GOOD) return ok("terminals", found);
  return warning("terminals", found, `Raise the host's limit: sysctl ${setting}=4096`);
}

export function judgeUndivided(inReach: readonly string[]): Check {
  if (inReach.length === 0) return ok("open files and asynchronous I/O of the host", "more than memory holds");
  return warning(
    "open files and asynchronous I/O of the host",
    `one sandbox can take all that the host allows (${inReach.join(", ")})`,
    `The server raises these limits when it starts; where it may not: sysctl ${inReach.map((setting) => `${setting}=${2n ** 63n - 1n}`).join(" ")}`,
  );
}
