import { constants, getPriority, setPriority } from "node:os";
import { hasErrorCode } from "@caisson/linux";

/** What Linux takes for the thread that calls; other threads of the process keep theirs. */
const THIS_THREAD = 0;

/** Runs work for which others stand still, before what else the processors have to do. Where that is not allowed it just runs. */
export function atHighPriority<T>(work: () => T): T {
  const usual = getPriority(THIS_THREAD);
  try {
    setPriority(THIS_THREAD, constants.priority.PRIORITY_HIGHEST);
  } catch (error) {
    if (!hasErrorCode(error, "EACCES", "EPERM", "ERR_SYSTEM_ERROR")) throw error;
    return work();
  }
  try {
    return work();
  } finally {
    setPriority(THIS_THREAD, usual);
  }
}
