/** Pids that are remembered. They are never given out again, so an old one is of no danger; it is only no longer known. */
const MAX_PIDS = 65_536;

/** What is to be known of processes that have ended, the latest of them. */
export class EndedPids {
  readonly #pids = new Set<number>();

  add(pid: number): void {
    this.#pids.add(pid);
    if (this.#pids.size <= MAX_PIDS) return;
    const [oldest] = this.#pids;
    if (oldest !== undefined) this.#pids.delete(oldest);
  }

  has(pid: number): boolean {
    return this.#pids.has(pid);
  }
}
