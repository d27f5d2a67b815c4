import { access, mkdir, open, readdir, rm } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { type FileLock, hasErrorCode, step, syncDirectory } from "@caisson/linux";
import { CaissonError } from "@caisson/model";
import { lockDataDirectory, makeDataDirectory } from "../data-directory.ts";
import { writeDurably } from "../write-durably.ts";

/** While it is there, the directory holds what a restore has not finished, and nothing else. */
const INTENT = "restore.json";
/** What an empty directory may have, an intent that was cut off among it. */
const IGNORED = new Set(["lost+found", "server.lock", `${INTENT}.new`]);

/**
 * The data directory that a restore makes. The intent is the file `restore.json` in an empty directory; its removal is the commit. Until then no server starts there, and the same restore, or another one, begins again with
 * what is there: all of it is a restore's.
 */
export class RestoreTarget implements AsyncDisposable {
  readonly directory: string;
  readonly #lock: FileLock;

  private constructor(directory: string, lock: FileLock) {
    this.directory = directory;
    this.#lock = lock;
  }

  /** Throws `INVALID_CONFIG` for a directory that has something else. */
  static async open(dataDirectory: string, intent: object): Promise<RestoreTarget> {
    const directory = resolve(dataDirectory);
    const isNew = await mkdir(directory, { recursive: true });
    await makeDataDirectory(directory);
    await using undo = new AsyncDisposableStack();
    const target = undo.use(new RestoreTarget(directory, await lockDataDirectory(directory)));
    const names = (await readdir(directory)).filter((name) => !IGNORED.has(name));
    if (names.length > 0 && !names.includes(INTENT))
      throw new CaissonError(
        "INVALID_CONFIG",
        `Cannot restore to ${directory}: it is not empty (${names.slice(0, 3).join(", ")}). Give a new directory with --data; nothing is ever restored over something`,
      );
    if (isNew !== undefined) await syncDirectory(dirname(directory));
    for (const name of names) if (name !== INTENT) await rm(join(directory, name), { recursive: true, force: true });
    await writeDurably(directory, INTENT, `${JSON.stringify(intent)}\n`, 0o600, "restore.intent");
    undo.move();
    return target;
  }

  /** Writes a file below the directory, durably; folders on the way are for the server alone. */
  async write(path: string, bytes: string | Uint8Array, mode: number): Promise<void> {
    const to = join(this.directory, path);
    const folder = dirname(to);
    await mkdir(folder, { recursive: true, mode: 0o700 });
    {
      await using file = await open(to, "w", mode);
      await file.chmod(mode);
      await file.writeFile(bytes);
      await file.sync();
    }
    await syncDirectory(folder);
    if (folder !== this.directory) await syncDirectory(this.directory);
  }

  async commit(): Promise<void> {
    await step("restore.commit", () => rm(join(this.directory, INTENT)));
    await syncDirectory(this.directory);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#lock[Symbol.asyncDispose]();
  }
}

/** Throws `INVALID_CONFIG` for a data directory whose restore was cut off. */
export async function requireRestored(directory: string): Promise<void> {
  try {
    await access(join(directory, INTENT));
  } catch (error) {
    if (hasErrorCode(error, "ENOENT")) return;
    throw error;
  }
  throw new CaissonError(
    "INVALID_CONFIG",
    `The restore to ${directory} was cut off: run the same \`caisson restore\` again, which begins anew there`,
  );
}
