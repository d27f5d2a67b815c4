/**
 * How long a test waits at most for what takes `timeoutMs` at most on a real machine. `CAISSON_TEST_TIMEOUT_SCALE` multiplies it where
 * everything takes longer, as in an emulated machine. It is for deadlines only; what a test asserts stays the same.
 */
export function testTimeoutMs(timeoutMs: number): number {
  const text = process.env.CAISSON_TEST_TIMEOUT_SCALE ?? "1";
  const scale = Number(text);
  if (!(scale >= 1)) throw new Error(`CAISSON_TEST_TIMEOUT_SCALE is ${JSON.stringify(text)}: use a number from 1`);
  return Math.round(timeoutMs * scale);
}
