import { openEvent, poll, readNow, writeNow } from "./terminal-calls.ts";

/** Sizes and bits of poll(2). */
const POLLFD_BYTES = 8;
export const READABLE = 1;
export const WRITABLE = 4;

interface Waiter {
  readonly descriptor: number;
  readonly events: number;
  readonly ready: () => void;
}

/**
 * Waits for descriptors that Deno does not know. One thread waits for all of them, and an event of its own tells it that there are others now.
 */
class DescriptorPoller {
  readonly #waiters = new Set<Waiter>();
  #event: number | null = null;
  #polling: Promise<void> | null = null;

  /** Resolves when the descriptor is ready, has failed or is released. */
  wait(descriptor: number, events: number): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#waiters.add({ descriptor, events, ready: resolve });
    this.#wake();
    this.#polling ??= this.#run();
    return promise;
  }

  /** Ends all waiting for a descriptor. When this resolves, no thread uses it and it can be closed. */
  async release(descriptor: number): Promise<void> {
    for (const waiter of this.#waiters) if (waiter.descriptor === descriptor) this.#end(waiter);
    this.#wake();
    await this.#round;
  }

  #round: Promise<void> = Promise.resolve();

  async #run(): Promise<void> {
    try {
      while (this.#waiters.size > 0) {
        this.#round = this.#pollOnce();
        await this.#round;
      }
    } finally {
      this.#polling = null;
    }
  }

  async #pollOnce(): Promise<void> {
    this.#event ??= openEvent();
    const waiters = [...this.#waiters];
    const bytes = new Uint8Array(POLLFD_BYTES * (waiters.length + 1));
    const view = new DataView(bytes.buffer);
    view.setInt32(0, this.#event, true);
    view.setInt16(4, READABLE, true);
    for (const [index, { descriptor, events }] of waiters.entries()) {
      view.setInt32(POLLFD_BYTES * (index + 1), descriptor, true);
      view.setInt16(POLLFD_BYTES * (index + 1) + 4, events, true);
    }
    await poll(bytes, waiters.length + 1);
    readNow(this.#event, new Uint8Array(8));
    for (const [index, waiter] of waiters.entries())
      if (view.getInt16(POLLFD_BYTES * (index + 1) + 6, true) !== 0) this.#end(waiter);
  }

  #end(waiter: Waiter): void {
    this.#waiters.delete(waiter);
    waiter.ready();
  }

  #wake(): void {
    const one = new Uint8Array(8);
    new DataView(one.buffer).setBigUint64(0, 1n, true);
    if (this.#event !== null) writeNow(this.#event, one);
  }
}

export const poller = new DescriptorPoller();
