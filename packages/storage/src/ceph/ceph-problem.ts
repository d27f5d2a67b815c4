import { CaissonError } from "@caisson/model";
import type { CephConnection } from "./ceph-connection.ts";
import { type CephPool, describeFailure, poolName, RbdError } from "./rbd-client.ts";

/** A failure in the product's words; what is not the cluster's stays as it is. */
export function asCephProblem(error: unknown, action: string, pool: CephPool, connection: CephConnection): unknown {
  if (!(error instanceof RbdError)) return error;
  if (error.code === "ENOSPC" || error.code === "EDQUOT")
    return new CaissonError(
      "STORAGE_FULL",
      `Cannot ${action}: the Ceph pool ${poolName(pool)} is full. ${FULL_CEPH_ADVICE}`,
      { cause: error },
    );
  if (!UNAVAILABLE.has(error.code)) return error;
  // It cannot be used any more; the next call opens another connection, unless this server was fenced.
  if (error.code === "ESHUTDOWN") connection.drop();
  return new CaissonError("DISK_UNAVAILABLE", `Cannot ${action}. ${describeFailure(pool, error)}`, { cause: error });
}

export const FULL_CEPH_ADVICE =
  'Purge what is deleted ("caisson purge"), delete volumes or snapshots with "--now", delete files inside volumes, or add OSDs to the cluster';

const UNAVAILABLE: ReadonlySet<string> = new Set(["ETIMEDOUT", "ENOTCONN", "ESHUTDOWN", "EPIPE", "EACCES", "EPERM"]);
