import { readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { hasErrorCode, syncDirectory } from "@caisson/linux";
import { CaissonError } from "@caisson/model";
import { Type } from "typebox";
import { Value } from "typebox/value";
import { writeDurably } from "../../write-durably.ts";

export const RESTORED_FILE = "restored.json";

const RestoredSchema = Type.Object({
  backup: Type.String(),
  /** The snapshot that each of these volumes is to be made of again. */
  volumes: Type.Record(Type.String(), Type.String()),
  /** Snapshots that are to be fetched without being used. */
  snapshots: Type.Array(Type.String()),
});

/** What a restore has left for the server to bring back: the file `restored.json` in the data directory. Each is taken out when it is there, and the file goes with the last one. */
export class RestoredDisks {
  readonly #directory: string;
  readonly #volumes: Map<string, string>;
  readonly #snapshots: Set<string>;
  readonly #backup: string;
  #writing: Promise<unknown> = Promise.resolve();

  private constructor(directory: string, backup: string, volumes: Map<string, string>, snapshots: Set<string>) {
    this.#directory = directory;
    this.#backup = backup;
    this.#volumes = volumes;
    this.#snapshots = snapshots;
  }

  /** Of a directory that nobody restored. */
  static none(directory: string): RestoredDisks {
    return new RestoredDisks(directory, "", new Map(), new Set());
  }

  /** Throws `INVALID_CONFIG` for a file that cannot be read: without it volumes would be without their bytes. */
  static async open(directory: string): Promise<RestoredDisks> {
    const path = join(directory, RESTORED_FILE);
    try {
      const value: unknown = JSON.parse(await readFile(path, "utf8"));
      if (!Value.Check(RestoredSchema, value)) throw new Error("it has not the form that Caisson writes");
      return new RestoredDisks(
        directory,
        value.backup,
        new Map(Object.entries(value.volumes)),
        new Set(value.snapshots),
      );
    } catch (error) {
      if (hasErrorCode(error, "ENOENT")) return RestoredDisks.none(directory);
      const said = error instanceof Error ? error.message : String(error);
      throw new CaissonError("INVALID_CONFIG", `Cannot read ${path}: ${said}. Restore to a new directory again`, {
        cause: error,
      });
    }
  }

  /** Of what a volume is to be made again; null: it is there. */
  snapshotOf(volumeId: string): string | null {
    return this.#volumes.get(volumeId) ?? null;
  }

  /** Ids of all that is to be brought back, volumes first. */
  pending(): readonly string[] {
    return [...this.#volumes.keys(), ...this.#snapshots];
  }

  /** It is there, or gone for good. Durable when it resolves. */
  async settle(id: string): Promise<void> {
    this.#volumes.delete(id);
    this.#snapshots.delete(id);
    const write = () => this.#write();
    const done = this.#writing.then(write, write);
    this.#writing = done.catch(() => undefined);
    await done;
  }

  async #write(): Promise<void> {
    if (this.pending().length === 0) {
      await rm(join(this.#directory, RESTORED_FILE), { force: true });
      await syncDirectory(this.#directory);
      return;
    }
    const text = restoredText(this.#backup, Object.fromEntries(this.#volumes), [...this.#snapshots]);
    await writeDurably(this.#directory, RESTORED_FILE, text, 0o600, "restored.commit");
  }
}

/** Content of the file. */
export function restoredText(
  backup: string,
  volumes: Readonly<Record<string, string>>,
  snapshots: readonly string[],
): string {
  return `${JSON.stringify({ backup, volumes, snapshots }, null, 2)}\n`;
}
