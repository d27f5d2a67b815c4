const SCORE_FILE = "/proc/self/oom_score_adj";
/** The kernel's highest: ended before everything that was not marked so. */
const FIRST_VICTIM_SCORE = "1000";

/**
 * Runs `start` while the agent's own out-of-memory score is the highest, so that processes started by it inherit that score and the kernel
 * ends them before the agent, without which the sandbox would be lost. Raising a score and going back to the former needs no
 * privilege; giving it to the child afterwards would leave a moment in which the child has none. Nothing else runs meanwhile,
 * because everything here is synchronous.
 */
export function asFirstVictim<T>(start: () => T): T {
  const formerScore = raiseScore();
  try {
    return start();
  } finally {
    if (formerScore !== null) Deno.writeTextFileSync(SCORE_FILE, formerScore);
  }
}

/** Returns the former score, or null when the host does not let it be changed: then parent and child simply have the same. */
function raiseScore(): string | null {
  try {
    const formerScore = Deno.readTextFileSync(SCORE_FILE).trim();
    Deno.writeTextFileSync(SCORE_FILE, FIRST_VICTIM_SCORE);
    return formerScore;
  } catch {
    return null;
  }
}
