import type { Signal } from "./child-process.ts";

/** Called with each signal that is sent through a {@linkcode KillSignal}. */
export type KillSignalListener = (signal: Signal) => void;

/** A connection between two kill signals. */
export interface KillSignalLink {
  /** Ends it. */
  unsubscribe(): void;
}

/** Signals that count as an order to end, and the exit code of a process that obeys. */
const ABORTING: Readonly<Partial<Record<Signal, number>>> = {
  SIGINT: 130,
  SIGQUIT: 131,
  SIGABRT: 134,
  SIGKILL: 137,
  SIGTERM: 143,
};

/** Sends signals to commands, as an `AbortController` sends aborts. */
export class KillController {
  /** Give it to a command with `.signal()`. */
  readonly signal: KillSignal = new KillSignal();

  /** Sends the signal to every command that was given {@linkcode KillController.signal}. Default: `SIGTERM`. */
  kill(signal: Signal = "SIGTERM"): void {
    deliver(this.signal, signal);
  }
}

let deliver: (target: KillSignal, signal: Signal) => void;

/** The receiving end of a {@linkcode KillController}. */
export class KillSignal {
  #abortedExitCode: number | undefined;
  readonly #listeners = new Set<KillSignalListener>();

  static {
    deliver = (target, signal) => target.#deliver(signal);
  }

  /** Whether a signal that ends processes (`SIGTERM`, `SIGKILL`, `SIGABRT`, `SIGQUIT`, `SIGINT`) was sent. */
  get aborted(): boolean {
    return this.#abortedExitCode !== undefined;
  }

  /** The exit code of a command that is not even started because {@linkcode aborted} is true. */
  get abortedExitCode(): number | undefined {
    return this.#abortedExitCode;
  }

  /** Passes every signal on to another `KillSignal`, until `unsubscribe` is called. */
  linkChild(killSignal: KillSignal): KillSignalLink {
    const listener: KillSignalListener = (signal) => deliver(killSignal, signal);
    this.addListener(listener);
    return { unsubscribe: () => this.removeListener(listener) };
  }

  /** Calls the listener with each signal. */
  addListener(listener: KillSignalListener): void {
    this.#listeners.add(listener);
  }

  /** Ends what {@linkcode addListener} began. */
  removeListener(listener: KillSignalListener): void {
    this.#listeners.delete(listener);
  }

  #deliver(signal: Signal): void {
    this.#abortedExitCode = ABORTING[signal] ?? this.#abortedExitCode;
    for (const listener of [...this.#listeners]) listener(signal);
  }
}
