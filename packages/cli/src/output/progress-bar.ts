import cliProgress, { type Options, type Params, type SingleBar } from "cli-progress";
import { printable } from "./printable.ts";

/** What stands beside the bar. `bar` is the bar itself, drawn for the present fraction. */
export type BarText<P> = (
  bar: string,
  state: { readonly value: number; readonly total: number; readonly fraction: number },
  payload: P,
) => string;

/** A progress bar on standard error, removed when it stops. `P` is what `start` and `update` are given beside the value. */
export function createProgressBar<P>(text: BarText<P>): SingleBar {
  return new cliProgress.SingleBar({
    stream: process.stderr,
    hideCursor: true,
    clearOnComplete: true,
    barsize: 24,
    fps: 10,
    barCompleteChar: "█",
    barIncompleteChar: "░",
    // The library's own handling of signals would end the process before the command has cleaned up.
    gracefulExit: false,
    format: (options: Options, { progress, value, total }: Params, payload: P) => {
      const fraction = Math.min(1, progress);
      return printable(text(cliProgress.Format.BarFormat(fraction, options), { value, total, fraction }, payload));
    },
  });
}
