import { monitorEventLoopDelay } from "node:perf_hooks";

type DelayHistogram = ReturnType<typeof monitorEventLoopDelay>;

const INTERVAL_MS = 10;
const WINDOW_MS = 60_000;

/** Quantiles of the delay that are told; 1 is the longest. */
export const DELAY_QUANTILES = [0.5, 0.9, 0.99, 1] as const;

/**
 * How long work waited for the event loop in the last one to two minutes. It forgets by the clock, not when somebody looks, so that two observers
 * see the same. The look itself costs 100 timers a second outside of JavaScript.
 */
export class EventLoopWatch implements Disposable {
  #previous: DelayHistogram | null = null;
  #current: DelayHistogram = startHistogram();
  readonly #timer = setInterval(() => this.#turn(), WINDOW_MS).unref();

  /** In seconds; `quantile` from 0 to 1. A block counts from when the next timer was due, which is up to 10 ms after its beginning. */
  delaySeconds(quantile: number): number {
    return Math.max(...[this.#previous, this.#current].map((histogram) => delayOf(histogram, quantile)));
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
    this.#current.disable();
  }

  #turn(): void {
    this.#current.disable();
    this.#previous = this.#current;
    this.#current = startHistogram();
  }
}

function startHistogram(): DelayHistogram {
  const histogram = monitorEventLoopDelay({ resolution: INTERVAL_MS });
  histogram.enable();
  return histogram;
}

/** The histogram holds times between two timers, so a loop without work has the interval itself. */
function delayOf(histogram: DelayHistogram | null, quantile: number): number {
  if (histogram === null || histogram.count === 0) return 0;
  const betweenNs = quantile === 1 ? histogram.max : histogram.percentile(100 * quantile);
  return Math.max(0, betweenNs / 1e9 - INTERVAL_MS / 1000);
}
