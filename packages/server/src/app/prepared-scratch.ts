import { randomCharacters } from "@caisson/model";
import type { ScratchDisk, ScratchDisks } from "@caisson/storage";

/**
 * Scratch disks of one pool, a few of them kept ready, since making one takes several milliseconds and a waiting one only costs its metadata.
 * Nothing on them must last, so whatever a crash leaves is deleted at the next start.
 */
export class PreparedScratch {
  readonly #disks: ScratchDisks;
  readonly #preparedCount: number;
  readonly #ready: ScratchDisk[] = [];
  #refill: Promise<void> | null = null;
  #isClosed = false;

  constructor(disks: ScratchDisks, preparedCount: number) {
    this.#disks = disks;
    this.#preparedCount = preparedCount;
  }

  async take(): Promise<ScratchDisk> {
    const disk = this.#ready.shift() ?? (await this.#make());
    this.prepare();
    return disk;
  }

  /** Wipes and removes the disk. */
  discard(disk: ScratchDisk): Promise<void> {
    return this.#disks.destroy(disk.id);
  }

  /** Makes disks ready in the background. A failure here is not lost: the next `take` meets it itself. */
  prepare(): void {
    if (this.#refill !== null || this.#isClosed) return;
    this.#refill = this.#fill()
      .catch(() => {})
      .finally(() => {
        this.#refill = null;
      });
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#refill;
    for (const disk of this.#ready.splice(0)) await this.discard(disk);
  }

  async #fill(): Promise<void> {
    while (!this.#isClosed && this.#ready.length < this.#preparedCount) this.#ready.push(await this.#make());
  }

  #make(): Promise<ScratchDisk> {
    return this.#disks.create(`scr_${randomCharacters(20)}`);
  }
}
