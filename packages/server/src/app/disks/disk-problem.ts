import { CaissonError } from "@caisson/model";
import { type AppContext, requireRegionOf } from "../context.ts";
import type { Disk } from "../records.ts";

/** Why a volume or snapshot cannot be used now, with what to do about it, although it is not lost; null: it can. */
export function findProblem(app: AppContext, disk: Disk): string | null {
  try {
    return requireRegionOf(app, disk).storage.placeOf(disk.id).problem;
  } catch (error) {
    if (error instanceof CaissonError) return error.message;
    throw error;
  }
}
