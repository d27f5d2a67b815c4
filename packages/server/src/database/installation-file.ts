import { randomUUID } from "node:crypto";
import { open, readFile, rename } from "node:fs/promises";
import { join } from "node:path";
import { step, syncDirectory } from "@caisson/linux";
import { CaissonError } from "@caisson/model";
import { Type } from "typebox";
import { Value } from "typebox/value";

const InstallationSchema = Type.Object({
  id: Type.String({ minLength: 1 }),
  rows: Type.Union([Type.Literal("sqlite"), Type.Literal("postgresql")]),
});

/** Which rows tell of what lies in a data directory. */
export interface InstallationRecord {
  /** The PostgreSQL database that has the same id is this directory's. */
  readonly id: string;
  /** Where the rows are: those of PostgreSQL count from the moment that this says so. */
  readonly rows: "sqlite" | "postgresql";
}

/** The file `database/installation.json` of a data directory, which has had a PostgreSQL database named in its settings. */
export class InstallationFile {
  readonly #directory: string;
  readonly #path: string;

  constructor(databaseDirectory: string) {
    this.#directory = databaseDirectory;
    this.#path = join(databaseDirectory, "installation.json");
  }

  /** Null: there is none. Throws `INVALID_CONFIG` for one that cannot be read. */
  async read(): Promise<InstallationRecord | null> {
    try {
      const value: unknown = JSON.parse(await readFile(this.#path, "utf8"));
      if (Value.Check(InstallationSchema, value)) return value;
      throw new Error("it has not the form that Caisson writes");
    } catch (error) {
      if (error instanceof Error && "code" in error && error.code === "ENOENT") return null;
      throw new CaissonError(
        "INVALID_CONFIG",
        `Cannot read ${this.#path}: ${error instanceof Error ? error.message : String(error)}. Restore the file from a backup`,
        { cause: error },
      );
    }
  }

  /** The id of this data directory, made when it has none: the intent to have rows in PostgreSQL. */
  async ensure(): Promise<InstallationRecord> {
    const existing = await this.read();
    if (existing !== null) return existing;
    const made = { id: randomUUID(), rows: "sqlite" } as const;
    await this.#write(made);
    return made;
  }

  /** The commit: from here on the rows in PostgreSQL count. */
  async commit(record: InstallationRecord): Promise<void> {
    await step("installation.commit", () => this.#write({ ...record, rows: "postgresql" }));
  }

  async #write(record: InstallationRecord): Promise<void> {
    const temporary = `${this.#path}.new`;
    {
      await using file = await open(temporary, "w", 0o600);
      await file.writeFile(`${JSON.stringify(record, null, 2)}\n`);
      await file.sync();
    }
    await rename(temporary, this.#path);
    await syncDirectory(this.#directory);
  }
}
