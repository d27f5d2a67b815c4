import type { SingleBar } from "cli-progress";
import type { Output } from "../output/output.ts";
import { createProgressBar } from "../output/progress-bar.ts";
import type { ImageProgress } from "../server-process/temporary-server.ts";

/** Shows how far the making of the image is: as a bar on a terminal, else with a line for each stage. */
export class ImageProgressDisplay implements Disposable {
  readonly #output: Output;
  readonly #bar: SingleBar | null;
  #message = "";

  constructor(output: Output) {
    this.#output = output;
    this.#bar = output.isWatched ? createBar() : null;
  }

  readonly report = ({ fraction, message }: ImageProgress): void => {
    const isNew = message !== this.#message;
    this.#message = message;
    if (this.#bar?.isActive) this.#bar.update(fraction, { message });
    else if (this.#bar !== null) this.#bar.start(1, fraction, { message });
    else if (isNew) this.#output.note(`  image: ${message} (${Math.round(fraction * 100)}%)`);
  };

  [Symbol.dispose](): void {
    this.#bar?.stop();
  }
}

function createBar(): SingleBar {
  return createProgressBar<{ readonly message: string }>(
    (bar, { fraction }, { message }) => `${bar} ${Math.floor(fraction * 100)}%  making builtin:debian-13: ${message}`,
  );
}
