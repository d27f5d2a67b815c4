import { once } from "node:events";
import { Worker } from "node:worker_threads";
import {
  endStandingTrace,
  faultPoint,
  type HasDescriptor,
  type StandingTrace,
  thaw,
  withExpeditedRcu,
} from "@caisson/linux";
import { CONTROL, type CopyMessage, type CopyOrder, type CopyReport, STATE } from "./copy-order.ts";

const THREAD = new URL("./copy-thread.ts", import.meta.url);
const WATCH_MS = 25;

export interface CopyImageOptions {
  readonly source: HasDescriptor;
  readonly target: HasDescriptor;
  readonly sizeBytes: number;
  readonly isSeeded: boolean;
  readonly detail: string;
  readonly live: (Omit<NonNullable<CopyOrder["live"]>, "mountFd"> & { readonly mount: HasDescriptor }) | null;
  /** How long writers may stand still; after that they are thawed, and the copy goes on to another try. */
  readonly freezeDeadlineMs: number;
  readonly signal?: AbortSignal;
  /** Told about what failed after the copy was whole. */
  readonly onLateError: (error: unknown) => void;
}

/** The copy failed, with the code of the kernel call that did. */
export class CopyError extends Error {
  readonly code: string;

  constructor(code: string, message: string) {
    super(message);
    this.name = "CopyError";
    this.code = code;
  }
}

/** A copy that is whole, while the thread that made it still cleans up. */
export interface ImageCopied extends AsyncDisposable {
  readonly report: CopyReport;
  /** Of a live source: the trace goes on, and belongs to the caller. */
  readonly standing: StandingTrace | null;
}

/**
 * Copies an image in a thread of its own (`image-copy.ts`). Resolves as soon as the copy is whole; the disposal waits for the end of the thread. The files
 * must stay open until then. The standing trace belongs to it from the call on, and is ended where no new one is returned.
 */
export async function copyImage(options: CopyImageOptions): Promise<ImageCopied> {
  const control = new Int32Array(new SharedArrayBuffer(CONTROL.LENGTH * Int32Array.BYTES_PER_ELEMENT));
  try {
    return await copyInThread(options, control);
  } catch (error) {
    const standing = options.live?.standing ?? null;
    if (standing !== null && Atomics.load(control, CONTROL.hasTrace) === 0)
      await endStandingTrace(standing).catch(options.onLateError);
    throw error;
  }
}

/** Rejects when the thread is gone. */
async function copyInThread(options: CopyImageOptions, control: Int32Array<SharedArrayBuffer>): Promise<ImageCopied> {
  const { source, target, sizeBytes, isSeeded, detail, live, signal } = options;
  signal?.throwIfAborted();
  const order: CopyOrder = {
    sourceFd: source.fd,
    targetFd: target.fd,
    sizeBytes,
    isSeeded,
    detail,
    live:
      live === null
        ? null
        : { mountFd: live.mount.fd, mountPath: live.mountPath, trace: live.trace, standing: live.standing },
    control: control.buffer,
  };
  await faultPoint("storage.copy.thread");
  const thread = new Worker(THREAD, { workerData: order, trackUnmanagedFds: false });
  const ended = once(thread, "exit").then(() => undefined);
  const cancel = (): void => void Atomics.store(control, CONTROL.isCancelled, 1);
  signal?.addEventListener("abort", cancel, { once: true });
  const { promise, resolve, reject } = Promise.withResolvers<Omit<ImageCopied, keyof AsyncDisposable>>();
  let isCopied = false;
  const fail = (error: unknown): void => (isCopied ? options.onLateError(error) : reject(error));
  const freezes = live === null ? null : new WatchedFreezes(control, live, options.freezeDeadlineMs);
  thread.on("message", (message: CopyMessage) => {
    if (message.kind === "freezing") freezes?.begin();
    else if (message.kind === "copied") {
      isCopied = true;
      resolve({ report: message.report, standing: message.standing });
    } else fail(new CopyError(message.code, message.message));
  });
  thread.on("error", fail);
  void ended.then(() => reject(new Error(`The thread that copied ${detail} ended too early`)));
  const end = async (): Promise<void> => {
    await ended;
    signal?.removeEventListener("abort", cancel);
    await freezes?.end();
  };
  try {
    return { ...(await promise), [Symbol.asyncDispose]: end };
  } catch (error) {
    await end();
    if (signal?.aborted === true) throw signal.reason;
    throw error;
  }
}

/** Lets the thread freeze while the kernel's waits are short, and thaws where it takes too long or cannot any more. */
class WatchedFreezes {
  readonly #control: Int32Array;
  readonly #live: NonNullable<CopyImageOptions["live"]>;
  readonly #deadlineMs: number;
  readonly #ended = Promise.withResolvers<void>();
  #timer: NodeJS.Timeout | null = null;
  #frozenSinceMs: number | null = null;
  #expedited: Promise<void> = Promise.resolve();

  constructor(control: Int32Array, live: NonNullable<CopyImageOptions["live"]>, deadlineMs: number) {
    this.#control = control;
    this.#live = live;
    this.#deadlineMs = deadlineMs;
  }

  begin(): void {
    if (this.#timer !== null) {
      this.#go();
      return;
    }
    this.#timer = setInterval(() => this.#watch(), WATCH_MS);
    this.#expedited = withExpeditedRcu(async () => {
      this.#go();
      await this.#ended.promise;
    });
  }

  /** The thread is gone: what it has left frozen is thawed. What somebody else froze stays as it is. */
  async end(): Promise<void> {
    if (this.#timer === null) return;
    clearInterval(this.#timer);
    const state = Atomics.load(this.#control, CONTROL.state);
    if (state === STATE.freezing || state === STATE.frozen) thaw(this.#live.mount, this.#live.mountPath);
    this.#ended.resolve();
    await this.#expedited;
  }

  #go(): void {
    Atomics.store(this.#control, CONTROL.mayFreeze, 1);
    Atomics.notify(this.#control, CONTROL.mayFreeze);
  }

  #watch(): void {
    if (Atomics.load(this.#control, CONTROL.state) !== STATE.frozen) {
      this.#frozenSinceMs = null;
      return;
    }
    this.#frozenSinceMs ??= performance.now();
    if (performance.now() - this.#frozenSinceMs <= this.#deadlineMs) return;
    if (Atomics.compareExchange(this.#control, CONTROL.state, STATE.frozen, STATE.expired) !== STATE.frozen) return;
    thaw(this.#live.mount, this.#live.mountPath);
  }
}
