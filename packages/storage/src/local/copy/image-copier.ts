import type { FileHandle } from "node:fs/promises";
import { stat } from "node:fs/promises";
import { BlockTracing, cloneFile, countExtents, KernelError, openFile, truncateFile } from "@caisson/linux";
import { CaissonError } from "@caisson/model";
import type { ImageId, LiveFileSystem } from "../../driver.ts";
import { FrozenFileSystem } from "../../frozen-file-system.ts";
import { type CopyImageOptions, copyImage, type ImageCopied } from "./copy-image.ts";
import { StandingTraces } from "./standing-traces.ts";

/** So many extents are copied in one call in about 10 ms. Beyond that they are copied piece by piece. */
export const SCATTERED_EXTENTS = 400;
/** Where writes cannot be traced, writers stand still for the whole copy: up to so many extents, for less than 50 ms. */
const UNTRACED_EXTENTS = 1_500;

export interface CopyFiles {
  /** What the copy is for, for error messages. */
  readonly action: string;
  readonly source: FileHandle;
  readonly target: FileHandle;
  /** Of the target, for error messages. */
  readonly path: string;
  readonly sizeBytes: number;
  /** The target shares blocks with the source already. */
  readonly isSeeded: boolean;
}

export interface LiveSource {
  readonly fileSystem: LiveFileSystem;
  /** Through which it is written to. */
  readonly device: string;
  readonly source: ImageId;
  /** The image to be sealed. */
  readonly sealed: ImageId;
  /** The sealed image that the target is a copy of. */
  readonly seed: ImageId | null;
}

/** A whole copy. Its disposal waits for what made it; files stay open until then. */
export interface Copied extends AsyncDisposable {
  readonly frozenMs: number;
}

const COPIED_AT_ONCE: Copied = { frozenMs: 0, async [Symbol.asyncDispose]() {} };

/** Copies images of one pool: in one call where that is quick, and else piece by piece. */
export class ImageCopier implements AsyncDisposable {
  readonly #tracing: BlockTracing | null;
  /** Why there is no tracing. */
  readonly #reason: string;
  readonly #onError: (error: unknown) => void;
  readonly #standing: StandingTraces;

  private constructor(tracing: BlockTracing | null, reason: string, onError: (error: unknown) => void) {
    this.#tracing = tracing;
    this.#reason = reason;
    this.#onError = onError;
    this.#standing = new StandingTraces({ onError });
  }

  /** `directory`: the pool's, which one process at a time has open. */
  static async open(
    directory: string,
    { onError }: { readonly onError: (error: unknown) => void },
  ): Promise<ImageCopier> {
    const { dev, ino } = await stat(directory);
    try {
      return new ImageCopier(await BlockTracing.open(`caisson-${dev}-${ino}`), "", onError);
    } catch (error) {
      if (!(error instanceof KernelError)) throw error;
      onError(
        new Error(
          "Snapshots of fragmented volumes will be refused while a sandbox writes to them: see caisson doctor",
          {
            cause: error,
          },
        ),
      );
      return new ImageCopier(null, error.message, onError);
    }
  }

  /** The device of the image is about to go. */
  endTrace(source: ImageId): void {
    this.#standing.end(source);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#standing[Symbol.asyncDispose]();
    await this.#tracing?.[Symbol.asyncDispose]();
  }

  /** Copies a source that nobody writes to. */
  async copyAtRest(files: CopyFiles, signal?: AbortSignal): Promise<Copied> {
    const { source, target, path, sizeBytes } = files;
    if (!files.isSeeded && (await countExtents(source, path)) <= SCATTERED_EXTENTS) {
      await cloneFile(source, target, path);
      return COPIED_AT_ONCE;
    }
    await truncateFile(target, sizeBytes, path);
    return this.#copyInPieces(files, { live: null, freezeDeadlineMs: 0, ...(signal === undefined ? {} : { signal }) });
  }

  /** Copies a source that is written to through `device` and the file system on it, as it is at one instant at which that stands still. */
  async copyLive(files: CopyFiles, { fileSystem: live, device, ...images }: LiveSource): Promise<Copied> {
    const { action, source, target, path, sizeBytes } = files;
    const mostExtents = this.#tracing === null ? UNTRACED_EXTENTS : SCATTERED_EXTENTS;
    if ((!files.isSeeded || this.#tracing === null) && (await countExtents(source, path)) <= mostExtents) {
      // Of a seed nothing is of use then, and letting go of it while writers stand still would take as long as the copy.
      if (files.isSeeded) await truncateFile(target, 0, path);
      const copied = await this.#copyFrozen(files, live, 2 * mostExtents);
      if (copied !== null) return copied;
    }
    if (this.#tracing === null) {
      const extents = await countExtents(source, path);
      throw new CaissonError(
        "NOT_SUPPORTED",
        `Cannot ${action}: the volume is in ${extents} parts, and its sandbox would stand still while they are copied, because this host does ` +
          `not let the server trace writes (${this.#reason}). End the sandbox and try again; caisson doctor says what the host lacks`,
      );
    }
    await truncateFile(target, sizeBytes, path);
    const mount = await openFile(live.mountPath, "r");
    try {
      const standing = this.#standing.take(images.source, images.seed);
      const trace = standing?.order ?? (await this.#tracing.order(device));
      const copied = await this.#copyInPieces(files, {
        live: { mount, mountPath: live.mountPath, trace, standing },
        freezeDeadlineMs: live.freezeDeadlineMs,
      });
      if (copied.standing !== null) this.#standing.keep(images.source, images.sealed, copied.standing);
      return {
        frozenMs: copied.frozenMs,
        async [Symbol.asyncDispose]() {
          // The thread uses it to its end.
          try {
            await copied[Symbol.asyncDispose]();
          } finally {
            await mount.close();
          }
        },
      };
    } catch (error) {
      await mount.close();
      throw error;
    }
  }

  /** Copies all of it while it stands still. Null: it turned out to be more scattered, or it took too long. */
  async #copyFrozen(
    { source, target, path }: CopyFiles,
    live: LiveFileSystem,
    mostExtents: number,
  ): Promise<Copied | null> {
    await using frozen = await FrozenFileSystem.freeze(live.mountPath, { deadlineMs: live.freezeDeadlineMs });
    // Freezing writes out what was only in memory.
    if ((await countExtents(source, path)) > mostExtents) return null;
    await cloneFile(source, target, path);
    if (frozen.isExpired && this.#tracing !== null) return null;
    frozen.thaw();
    return { ...COPIED_AT_ONCE, frozenMs: frozen.stalledMs };
  }

  async #copyInPieces(
    { source, target, path, sizeBytes, isSeeded }: CopyFiles,
    options: Pick<CopyImageOptions, "live" | "freezeDeadlineMs" | "signal">,
  ): Promise<Copied & Pick<ImageCopied, "standing">> {
    const copied = await copyImage({
      source,
      target,
      sizeBytes,
      isSeeded,
      detail: path,
      onLateError: this.#onError,
      ...options,
    });
    const { report, standing } = copied;
    return { frozenMs: report.frozenMs, standing, [Symbol.asyncDispose]: () => copied[Symbol.asyncDispose]() };
  }
}
