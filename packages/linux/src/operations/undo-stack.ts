/**
 * What has to be undone, in the opposite order of its making. Unlike the language's own stack it stops at the first failure and keeps the
 * rest: a mount must not be taken away under processes that could not be killed, and undoing again continues where it stopped.
 */
export class UndoStack implements AsyncDisposable {
  #entries: (() => Promise<void>)[] = [];

  defer(undo: () => Promise<void>): void {
    this.#entries.push(undo);
  }

  /** Keeps the resource until its turn, and returns it. */
  use<T extends AsyncDisposable>(resource: T): T {
    this.defer(async () => resource[Symbol.asyncDispose]());
    return resource;
  }

  /** Hands everything to a new stack: this one then has nothing to undo. */
  move(): UndoStack {
    const moved = new UndoStack();
    moved.#entries = this.#entries;
    this.#entries = [];
    return moved;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (let undo = this.#entries.at(-1); undo !== undefined; undo = this.#entries.at(-1)) {
      await undo();
      this.#entries.pop();
    }
  }
}
