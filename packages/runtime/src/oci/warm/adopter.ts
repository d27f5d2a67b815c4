import { Worker } from "node:worker_threads";
import type { Adoption, AdoptionAnswer } from "./adoption.ts";

const THREAD = new URL("./adopt-thread.ts", import.meta.url);

/** Has waiting containers made sandboxes, one after the other, by a thread of its own (`adopt-thread.ts`). A thread that ends is replaced. */
export class Adopter implements AsyncDisposable {
  readonly #waiting = new Map<number, PromiseWithResolvers<void>>();
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
    const answer = Promise.withResolvers<void>();
    this.#waiting.set(this.#lastKey, answer);
    this.#thread?.ref();
    this.#thread?.postMessage({ key: this.#lastKey, order });
    return answer.promise;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#thread?.terminate();
  }

  #start(): Worker {
    const thread = new Worker(THREAD, { trackUnmanagedFds: false });
    thread.unref();
    thread.on("message", ({ key, error }: AdoptionAnswer) => {
      const answer = this.#waiting.get(key);
      this.#waiting.delete(key);
      if (this.#waiting.size === 0) thread.unref();
      if (error === null) answer?.resolve();
      else answer?.reject(new Error(error));
    });
    let reason: unknown = new Error("The thread that makes sandboxes of waiting containers has ended");
    thread.on("error", (error) => {
      reason = error;
    });
    thread.on("exit", () => {
      this.#thread = null;
      for (const { reject } of this.#waiting.values()) reject(reason);
      this.#waiting.clear();
    });
    return thread;
  }
}
