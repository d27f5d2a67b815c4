import { validityOf } from "@caisson/node-link";
import { type Membership, readMembership } from "../node-process/membership-file.ts";
import { type Check, missing, ok, warning } from "./check.ts";

const NAME = "certificate of this node";
const DAY_MS = 86_400_000;
/** Of one that is still not renewed then, renewals have failed for a month. */
const LATE_MS = 30 * DAY_MS;
const AUTHORITY_NAME = "authority of this node's installation";
/** It is renewed when two years are left. */
const AUTHORITY_LATE_MS = 365 * DAY_MS;

/** Looks until when the certificate is good of the node whose data directory this is, and its authority. Of a directory that is none there is nothing to say. */
export async function checkMembership(dataDirectory: string): Promise<readonly Check[]> {
  try {
    const membership = await readMembership(dataDirectory);
    return membership === null ? [] : [judgeMembership(membership, Date.now()), judgeAuthority(membership, Date.now())];
  } catch (error) {
    return [missing(NAME, error instanceof Error ? error.message : String(error), "Restore the data directory")];
  }
}

export function judgeMembership(
  { nodeId, certificate }: Pick<Membership, "nodeId" | "certificate">,
  nowMs: number,
): Check {
  const { untilMs } = validityOf(certificate);
  const found = `${nodeId}, good until ${new Date(untilMs).toISOString()}`;
  if (untilMs <= nowMs)
    return missing(
      NAME,
      found,
      "No server believes it any more: run `caisson nodes tokens create` on the server, and here `caisson up --role node --join TOKEN`; it stays the same node. If this machine's clock is wrong, set that instead",
    );
  if (untilMs - nowMs <= LATE_MS)
    return warning(
      NAME,
      `${found}, which is ${Math.ceil((untilMs - nowMs) / DAY_MS)} days`,
      "A server renews it as soon as it is connected to this node: start the node, or look in the server's log why it takes no new one",
    );
  return ok(NAME, found);
}

/** Until when the newest authority is good that the node knows. */
export function judgeAuthority({ authority }: Pick<Membership, "authority">, nowMs: number): Check {
  const { untilMs } = validityOf(authority);
  const found = `good until ${new Date(untilMs).toISOString()}`;
  if (untilMs - nowMs > AUTHORITY_LATE_MS) return ok(AUTHORITY_NAME, found);
  return warning(
    AUTHORITY_NAME,
    found,
    "A server renews it when two years are left, and tells this node over their connection: start the node, and look on the server with `caisson nodes authority show`",
  );
}
