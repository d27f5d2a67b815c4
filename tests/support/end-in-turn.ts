import { settleAll } from "@caisson/linux";

/** Ends one after the other, also when one of them fails, and then throws what failed: a server that was left behind would keep its test from ending. */
export async function endInTurn(...ends: readonly (() => unknown)[]): Promise<void> {
  const ended: Promise<unknown>[] = [];
  for (const end of ends) {
    const one = (async () => end())();
    ended.push(one);
    await one.catch(() => undefined);
  }
  await settleAll(ended);
}
