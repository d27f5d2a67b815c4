import { Worker } from "node:worker_threads";
import type { Adoption, AdoptionAnswer } from "./adoption.ts";

const THREAD = new URL("./adopt-thread.ts", import.meta.url);

interface Waiting extends PromiseWithResolvers<void> {
  readonly order: Adoption;
}

/**
 * Has waiting containers made sandboxes, one after the other, by a thread of its own (`adopt-thread.ts`). A thread that ends, as it does after each
 * failure, is replaced by one that goes on with those whose turn had not come.
 */
export class Adopter implements AsyncDisposable {
  /** What has no answer yet, by its key. The first is the one that the thread is at. */
  readonly #waiting = new Map<number, Waiting>();
  #thread: Worker | null = null;
  #lastKey = 0;

  /** Starts the thread, which takes some 50 ms. */
  prepare(): void {
    this.#thread ??= this.#start();
  }

  /** Resolves when the container has everything. After a failure it must be discarded. */
  async adopt(order: Adoption): Promise<void> {
    this.prepare();
    this.#lastKey += 1;
    const waiting = { order, ...Promise.withResolvers<void>() };
    this.#waiting.set(this.#lastKey, waiting);
    this.#thread?.ref();
    this.#thread?.postMessage({ key: this.#lastKey, order });
    return waiting.promise;
  }

  /** Nothing may be under way. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#thread?.terminate();
  }

  #start(): Worker {
    const thread = new Worker(THREAD, { trackUnmanagedFds: false });
    thread.unref();
    let isAtFirst = true;
    thread.on("message", ({ key, error }: AdoptionAnswer) => {
      const answered = this.#waiting.get(key);
      this.#waiting.delete(key);
      if (this.#waiting.size === 0) thread.unref();
      if (error === null) return answered?.resolve();
      isAtFirst = false;
      answered?.reject(new Error(error));
    });
    let reason: unknown = new Error("The thread that makes sandboxes of waiting containers has ended");
    thread.on("error", (error) => {
      reason = error;
    });
    thread.on("exit", () => {
      this.#thread = null;
      // Of one that has ended without a word nobody knows how far it was.
      if (isAtFirst) this.#rejectFirst(reason);
      this.#goOn();
    });
    return thread;
  }

  #rejectFirst(reason: unknown): void {
    const [first] = this.#waiting;
    if (first === undefined) return;
    this.#waiting.delete(first[0]);
    first[1].reject(reason);
  }

  #goOn(): void {
    if (this.#waiting.size === 0) return;
    this.#thread = this.#start();
    this.#thread.ref();
    for (const [key, { order }] of this.#waiting) this.#thread.postMessage({ key, order });
  }
}
