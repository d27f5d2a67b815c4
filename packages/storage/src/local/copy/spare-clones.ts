import type { FileHandle } from "node:fs/promises";
import { setTimeout as delay } from "node:timers/promises";
import { countExtents, hasErrorCode, openFile, step, syncFile } from "@caisson/linux";
import type { ImageId } from "../../driver.ts";
import type { ImageDirectory, IncomingImage } from "../image-directory.ts";
import { type ImageCopier, SCATTERED_EXTENTS } from "./image-copier.ts";

/** Spares hold no data of their own, but their extents: 16 bytes and more for each, in the file system's metadata. */
const MAX_SPARES = 16;
const MAX_EXTENTS = 2_000_000;
/** Leaves the processors and the disk to the caller, who is about to answer. */
const START_DELAY_MS = 100;
/** A spare that could not be made is tried again, after pauses that double. */
const FIRST_PAUSE_MS = 2_000;
const MAX_ATTEMPTS = 5;

export interface SpareClonesOptions {
  readonly images: ImageDirectory;
  readonly copier: ImageCopier;
  /** Whether the pool has room for something that nobody has asked for. */
  readonly hasRoom: () => Promise<boolean>;
  /**
   * Runs before a spare is made, while no spare shares the image's blocks: sees to it that what deleting the image would free is known, and says when
   * that was measured.
   */
  readonly measure: (id: ImageId, file: FileHandle, path: string) => Promise<number>;
  readonly onError: (error: unknown) => void;
}

interface Making {
  readonly id: ImageId;
  readonly controller: AbortController;
  readonly done: Promise<void>;
}

/**
 * A clone of each fragmented sealed image, ready to become the next image made from it: cloning takes 20 µs and more for each extent, and renaming a
 * clone that is ready takes 2 ms. They are made in the background, one at a time, the one that was wanted last first, and are on stable storage
 * before they are used.
 *
 * They lie in `spares/<id>`, and never outlive their image: they would keep its blocks. A start finds those of the run before and makes those that
 * lack.
 */
export class SpareClones {
  readonly #options: SpareClonesOptions;
  /** Spares that are ready, with their extents; the one that was wanted longest ago first. */
  readonly #ready = new Map<ImageId, number>();
  /** Images that want one; the last first. Those that somebody uses may take the place of others. */
  readonly #wanted = new Map<ImageId, { readonly isUsed: boolean }>();
  /** How often making one has failed, and the next try. */
  readonly #failures = new Map<ImageId, { readonly attempts: number; readonly timer: NodeJS.Timeout }>();
  readonly #closing = new AbortController();
  #making: Making | null = null;
  #running: Promise<void> | null = null;

  constructor(options: SpareClonesOptions) {
    this.#options = options;
  }

  /** Takes over what the run before has left and, in the background, makes what lacks. */
  async open(): Promise<void> {
    const { images } = this.#options;
    const left = new Set(await images.listSpares());
    const sealed = await images.listSealed();
    for (const id of left) {
      if (sealed.includes(id)) this.#ready.set(id, await this.#countExtents(images.sparePathOf(id)));
      else await images.discardSpare(id);
    }
    for (const id of sealed) if (!left.has(id)) this.#wanted.set(id, { isUsed: false });
    this.#run();
  }

  /** Makes a spare of the sealed image soon, unless it is there or the image is quick to clone. */
  want(id: ImageId): void {
    const extents = this.#ready.get(id);
    if (extents !== undefined) {
      this.#ready.delete(id);
      this.#ready.set(id, extents);
      return;
    }
    // Behind all others, which makes it the next.
    this.#wanted.delete(id);
    this.#wanted.set(id, { isUsed: true });
    this.#run();
  }

  /** Whether the image has a spare, or one is being made: its blocks are then shared with that. */
  has(id: ImageId): boolean {
    return this.#ready.has(id) || this.#making?.id === id;
  }

  /** The image's spare as the beginning of image `newId`. Waits for one that is being made. Null: there is none. Until it is wanted, no other one is made. */
  async take(id: ImageId, newId: ImageId): Promise<IncomingImage | null> {
    if (this.#making?.id === id) await this.#making.done;
    if (!this.#ready.delete(id)) return null;
    return step("storage.spare.take", () => this.#options.images.adoptSpare(id, newId));
  }

  /** Removes the image's spare, and makes none until it is wanted again. */
  async forget(id: ImageId): Promise<void> {
    this.#wanted.delete(id);
    this.#forgetFailure(id);
    if (this.#making?.id === id) {
      this.#making.controller.abort();
      await this.#making.done;
    }
    this.#ready.delete(id);
    await this.#options.images.discardSpare(id);
  }

  /** Removes all spares; more are made when there is room and they are wanted. */
  async evict(): Promise<void> {
    this.#wanted.clear();
    const making = this.#making?.id;
    for (const id of [...this.#ready.keys(), ...(making === undefined ? [] : [making])]) await this.forget(id);
  }

  /** Resolves when every spare that is wanted is made. */
  async idle(): Promise<void> {
    while (this.#running !== null) await this.#running;
  }

  async close(): Promise<void> {
    this.#closing.abort();
    for (const id of this.#failures.keys()) this.#forgetFailure(id);
    this.#making?.controller.abort();
    await this.idle();
  }

  #run(): void {
    if (this.#closing.signal.aborted) return;
    this.#running ??= this.#makeAll().finally(() => {
      this.#running = null;
      if (this.#wanted.size > 0) this.#run();
    });
  }

  async #makeAll(): Promise<void> {
    await delay(START_DELAY_MS, undefined, { signal: this.#closing.signal }).catch(() => undefined);
    for (let next = [...this.#wanted].at(-1); next !== undefined; next = [...this.#wanted].at(-1)) {
      if (this.#closing.signal.aborted) return;
      const [id, { isUsed }] = next;
      this.#wanted.delete(id);
      const controller = new AbortController();
      const done = this.#tryToMake(id, isUsed, controller.signal);
      this.#making = { id, controller, done };
      await done;
      this.#making = null;
    }
  }

  /** Never rejects: nobody waits for a spare as such. */
  async #tryToMake(id: ImageId, isUsed: boolean, signal: AbortSignal): Promise<void> {
    try {
      await this.#make(id, isUsed, signal);
      this.#forgetFailure(id);
    } catch (error) {
      // There is no room for it, or the image is gone.
      if (signal.aborted || hasErrorCode(error, "ENOSPC", "EDQUOT", "ENOENT")) return;
      this.#options.onError(new Error(`Cannot make a spare clone of image ${id}`, { cause: error }));
      const attempts = (this.#failures.get(id)?.attempts ?? 0) + 1;
      this.#forgetFailure(id);
      if (attempts === MAX_ATTEMPTS || this.#closing.signal.aborted) return;
      const timer = setTimeout(() => this.want(id), FIRST_PAUSE_MS * 2 ** (attempts - 1)).unref();
      this.#failures.set(id, { attempts, timer });
    }
  }

  #forgetFailure(id: ImageId): void {
    clearTimeout(this.#failures.get(id)?.timer);
    this.#failures.delete(id);
  }

  async #make(id: ImageId, isUsed: boolean, signal: AbortSignal): Promise<void> {
    const { images, copier, hasRoom, measure } = this.#options;
    const sourcePath = images.pathOf("sealed", id);
    await using source = await openFile(sourcePath, "r");
    const extents = await countExtents(source, sourcePath);
    if (extents <= SCATTERED_EXTENTS || !(await hasRoom())) return;
    if (!isUsed && !this.#hasPlace(extents)) return;
    await this.#makePlace(extents);
    const { size: sizeBytes } = await source.stat();
    const measuredAtMs = await measure(id, source, sourcePath);
    await using spare = await images.createSpare(id);
    const { file: target, path } = spare;
    const action = `make a spare clone of image ${id}`;
    await step("storage.spare.copy", async () => {
      await using _copied = await copier.copyAtRest(
        { action, source, target, path, sizeBytes, isSeeded: false },
        signal,
      );
    });
    await spare.setMeasuredAt(measuredAtMs);
    await step("storage.spare.sync", () => syncFile(target, path));
    signal.throwIfAborted();
    await step("storage.spare.commit", () => spare.commit(images.sparePathOf(id)));
    this.#ready.set(id, extents);
  }

  /** Whether one more of so many extents is within the bounds. */
  #hasPlace(extents: number): boolean {
    const all = [...this.#ready.values()].reduce((sum, count) => sum + count, extents);
    return this.#ready.size < MAX_SPARES && all <= MAX_EXTENTS;
  }

  /** Removes what was wanted longest ago, until there is a place. */
  async #makePlace(extents: number): Promise<void> {
    for (const oldest of this.#ready.keys()) {
      if (this.#hasPlace(extents)) return;
      this.#ready.delete(oldest);
      await this.#options.images.discardSpare(oldest);
    }
  }

  async #countExtents(path: string): Promise<number> {
    await using file = await openFile(path, "r");
    return await countExtents(file, path);
  }
}
