import type { Duplex } from "node:stream";

/** Copies both ways with back-pressure until both sides have ended, or one of them breaks, which ends the other. */
export function relay(one: Duplex, other: Duplex): void {
  for (const [source, target] of [
    [one, other],
    [other, one],
  ] as const) {
    source.pipe(target);
    // Closed before its end was read: the other side must learn that something is missing.
    const close = (): void => {
      if (!source.readableEnded) target.destroy();
    };
    source.on("error", () => target.destroy());
    source.on("close", close);
    // It says so once, which may have been before.
    if (source.destroyed) close();
  }
}
