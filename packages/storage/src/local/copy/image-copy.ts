import { fsyncSync } from "node:fs";
import {
  BlockTrace,
  cloneRangeSync,
  faultPointSync,
  freezeSync,
  type HasDescriptor,
  hasErrorCode,
  KernelError,
  readExtentsSync,
  type StandingTrace,
  syncFileSystemSync,
  thaw,
} from "@caisson/linux";
import { CONTROL, type CopyOrder, type CopyReport, type LiveOrder, STATE } from "./copy-order.ts";
import { BLOCK_BYTES, type ByteRange, DirtyBlocks } from "./dirty-blocks.ts";
import { differingRanges } from "./extent-difference.ts";
import { atHighPriority } from "./high-priority.ts";

/** Both files are locked while a piece is copied: for 1 to 3 ms. */
const EXTENTS_PER_PIECE = 64;
/**
 * What the pieces change waits in the log of the pool's file system, and whoever syncs next writes all of it first: after this many pieces, about 1 MiB,
 * the copy does that itself.
 */
const PIECES_PER_SYNC = 16;
/** So few dirty ranges are copied in 2 to 3 ms. */
const FEW_RANGES = 64;
/** More than these are not copied while writers stand still, unless it has been tried a few times. */
const FROZEN_RANGES = 200;
const MAX_FREEZES = 5;
const MAX_ROUNDS = 12;
const MIN_ROUNDS = 3;
/** A round that leaves more than this share of the ranges of the one before has gained nothing. */
const SHRINKING = 0.8;
const MAX_ATTEMPTS = 5;
const GO_WAIT_MS = 10_000;

class LostEvents extends Error {}

type OnCopied = (report: CopyReport, standing: StandingTrace | null) => void;

export interface ImageCopyOptions {
  readonly order: CopyOrder;
  /** Announces a freeze; the other side then sets `mayFreeze`. */
  readonly announceFreeze: () => void;
}

/**
 * Copies an image of any number of extents, piece by piece, so that nobody waits for more than a piece. Blocks that are written to
 * meanwhile are learned from a trace of the device and copied again; the last of them while the file system stands still, which is the point in time
 * of the copy. For a thread that may block.
 */
export class ImageCopy {
  readonly #order: CopyOrder;
  readonly #announceFreeze: () => void;
  readonly #control: Int32Array;
  readonly #source: HasDescriptor;
  readonly #target: HasDescriptor;
  #freezes = 0;
  #copiedAgain = 0;
  #unsyncedPieces = 0;

  constructor({ order, announceFreeze }: ImageCopyOptions) {
    this.#order = order;
    this.#announceFreeze = announceFreeze;
    this.#control = new Int32Array(order.control);
    this.#source = { fd: order.sourceFd };
    this.#target = { fd: order.targetFd };
  }

  /** `onCopied` is told as soon as the copy is whole, with the trace of what is written from its point in time on. */
  run(onCopied: OnCopied): void {
    const { live, isSeeded } = this.#order;
    if (live === null) {
      this.#copyAll(isSeeded, () => undefined);
      onCopied({ frozenMs: 0, attempts: 1, freezes: 0, copiedAgain: 0 }, null);
      return;
    }
    for (let attempt = 1; ; attempt += 1) {
      try {
        // What an earlier attempt has copied is like the source already.
        this.#copyLive(live, isSeeded || attempt > 1, attempt, onCopied);
        return;
      } catch (error) {
        if (!(error instanceof LostEvents)) throw error;
        if (attempt === MAX_ATTEMPTS)
          throw new KernelError("trace", "EOVERFLOW", `${live.trace.path}: events were lost ${attempt} times`);
      }
    }
  }

  #copyLive(live: LiveOrder, isSeeded: boolean, attempt: number, onCopied: OnCopied): void {
    const standing = attempt === 1 ? live.standing : null;
    using trace = standing === null ? BlockTrace.start(live.trace, 2 ** (attempt - 1)) : this.#takeOverTrace(standing);
    const dirty = new DirtyBlocks(this.#order.sizeBytes);
    const drain = (): void => trace.drain((offset, length) => dirty.add(offset, length));
    if (standing === null) this.#copyAll(isSeeded, drain);
    else {
      drain();
      // It stood too long: more was written than it could hold.
      requireNoLoss(trace);
    }
    for (;;) {
      this.#copyDirty(dirty, drain);
      // Before what is written out, so that nothing is waited for between that and the freeze.
      this.#requireGo();
      faultPointSync("storage.seal.write-back");
      syncFileSystemSync({ fd: live.mountFd }, live.mountPath);
      drain();
      this.#copyAgain(dirty.take());
      // The freeze flushes the journal, and with it the pool's log: the copy's own changes are out of that by then.
      this.#sync();
      requireNoLoss(trace);
      const frozenMs = atHighPriority(() => this.#copyFrozen(live, trace, dirty, drain));
      if (frozenMs === null) continue;
      const report = { frozenMs, attempts: attempt, freezes: this.#freezes, copiedAgain: this.#copiedAgain };
      // A later attempt has a larger buffer than one may keep.
      onCopied(report, attempt === 1 ? trace.leaveStanding() : null);
      return;
    }
  }

  #takeOverTrace(standing: StandingTrace): BlockTrace {
    Atomics.store(this.#control, CONTROL.hasTrace, 1);
    return BlockTrace.resume(standing);
  }

  /** All of it, or all that differs. `afterPiece` keeps the trace's buffer from filling. */
  #copyAll(isSeeded: boolean, afterPiece: () => void): void {
    faultPointSync(this.#order.live === null ? "storage.copy" : "storage.seal.copy");
    const { sizeBytes, detail } = this.#order;
    const ranges: Iterable<ByteRange> = isSeeded
      ? differingRanges(this.#source, this.#target, detail, afterPiece)
      : [{ offset: 0, length: sizeBytes }];
    for (const range of ranges) this.#copyRange(range, afterPiece);
  }

  /** Rounds over what was written meanwhile, until little is left or no less. */
  #copyDirty(dirty: DirtyBlocks, drain: () => void): void {
    let before = Number.POSITIVE_INFINITY;
    for (let round = 1; round <= MAX_ROUNDS; round += 1) {
      faultPointSync("storage.seal.round");
      drain();
      const ranges = dirty.take();
      this.#copyAgain(ranges);
      if (ranges.length <= FEW_RANGES || (round >= MIN_ROUNDS && ranges.length > before * SHRINKING)) return;
      before = ranges.length;
    }
  }

  #copyAgain(ranges: readonly ByteRange[]): void {
    for (const range of ranges) this.#copyRange(range, () => undefined);
    this.#copiedAgain += ranges.length;
  }

  /** Copies the last of it while writers stand still, and says for how long they did; null: it was too much, or took too long. */
  #copyFrozen(live: LiveOrder, trace: BlockTrace, dirty: DirtyBlocks, drain: () => void): number | null {
    const mount = { fd: live.mountFd };
    this.#freezes += 1;
    faultPointSync("storage.seal.freeze:before");
    const startMs = performance.now();
    this.#freeze(live);
    let isThawed = false;
    /** False: the other side has thawed already, so the copy may lack what was written since. */
    const finish = (): boolean => {
      isThawed = true;
      const state = Atomics.compareExchange(this.#control, CONTROL.state, STATE.frozen, STATE.thawed);
      if (state !== STATE.frozen) return false;
      thaw(mount, live.mountPath);
      return true;
    };
    try {
      faultPointSync("storage.seal.freeze:after");
      drain();
      const ranges = dirty.take();
      if (ranges.length > FROZEN_RANGES && this.#freezes < MAX_FREEZES) {
        for (const { offset, length } of ranges) dirty.add(offset, length);
        finish();
        return null;
      }
      this.#copyAgain(ranges);
      faultPointSync("storage.seal.copied");
      requireNoLoss(trace);
      if (finish()) return performance.now() - startMs;
      if (this.#freezes < MAX_FREEZES) return null;
      throw new KernelError("copy", "ETIMEDOUT", `${this.#order.detail}: its writers stood still for too long`);
    } finally {
      if (!isThawed) finish();
    }
  }

  #freeze({ mountFd, mountPath }: LiveOrder): void {
    Atomics.store(this.#control, CONTROL.state, STATE.freezing);
    try {
      freezeSync({ fd: mountFd }, mountPath);
    } catch (error) {
      Atomics.store(this.#control, CONTROL.state, STATE.running);
      throw error;
    }
    Atomics.store(this.#control, CONTROL.state, STATE.frozen);
  }

  #copyRange({ offset, length }: ByteRange, afterPiece: () => void): void {
    const { sizeBytes, detail } = this.#order;
    const end = Math.min(offset + length, sizeBytes);
    for (let start = offset; start < end; ) {
      if (Atomics.load(this.#control, CONTROL.isCancelled) !== 0) throw new KernelError("copy", "ECANCELED", detail);
      const pieceEnd = this.#endOfPiece(start, end);
      cloneRangeSync(this.#source, this.#target, { offset: start, length: pieceEnd - start }, detail);
      this.#unsyncedPieces += 1;
      // While writers stand still nobody else syncs, and they wait for this copy.
      const isFrozen = Atomics.load(this.#control, CONTROL.state) === STATE.frozen;
      if (this.#unsyncedPieces >= PIECES_PER_SYNC && !isFrozen) this.#sync();
      afterPiece();
      start = pieceEnd;
    }
  }

  /** Puts the copy so far on stable storage. */
  #sync(): void {
    faultPointSync("storage.copy.sync");
    fsyncSync(this.#order.targetFd);
    this.#unsyncedPieces = 0;
  }

  /** Where the 64th extent from `start` on ends. Extents are whole blocks, so a range of few blocks needs no look at the map. */
  #endOfPiece(start: number, end: number): number {
    if (end - start <= EXTENTS_PER_PIECE * BLOCK_BYTES) return end;
    const options = { offset: start, maxExtents: EXTENTS_PER_PIECE };
    const { extents, nextOffset } = readExtentsSync(this.#source, options, this.#order.detail);
    const last = extents.at(-1);
    return last === undefined || nextOffset === null ? end : Math.min(end, last.offset + last.length);
  }

  #requireGo(): void {
    Atomics.store(this.#control, CONTROL.mayFreeze, 0);
    Atomics.store(this.#control, CONTROL.state, STATE.running);
    this.#announceFreeze();
    Atomics.wait(this.#control, CONTROL.mayFreeze, 0, GO_WAIT_MS);
  }
}

function requireNoLoss(trace: BlockTrace): void {
  try {
    faultPointSync("storage.seal.lost-events");
  } catch (error) {
    // How a test lets events be lost.
    if (hasErrorCode(error, "EOVERFLOW")) throw new LostEvents();
    throw error;
  }
  if (trace.countLost() > 0) throw new LostEvents();
}
