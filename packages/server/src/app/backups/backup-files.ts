import { readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { hasErrorCode } from "@caisson/linux";
import { CaissonError } from "@caisson/model";
import type { BackupFile } from "@caisson/snapshot-store";

/** Where the settings lie in a data directory. */
export const SETTINGS = "caisson.toml";
/** What makes a restored server the same one to its clients: the key of its SSH server, and the authority of its previews. The token of this machine is left out: the next start makes another one. */
const KEPT = ["ssh", "previews"];
const FILE_BYTES_MAX = 2 ** 20;

/** The files of a data directory that belong to a backup, and the settings, wherever they are. What is not there is left out. Throws `INVALID_CONFIG` for one that is too large. */
export async function readBackupFiles(dataDirectory: string, settingsPath: string): Promise<readonly BackupFile[]> {
  const names = await Promise.all(KEPT.map((folder) => namesIn(dataDirectory, folder)));
  const files = [
    { path: SETTINGS, from: settingsPath },
    ...names.flat().map((path) => ({ path, from: join(dataDirectory, path) })),
  ];
  const read = await Promise.all(files.map(({ path, from }) => readOne(path, from)));
  return read.filter((file) => file !== null);
}

async function namesIn(dataDirectory: string, folder: string): Promise<readonly string[]> {
  try {
    const entries = await readdir(join(dataDirectory, folder), { withFileTypes: true });
    // What a crash left half written has another ending.
    return entries
      .filter((entry) => entry.isFile() && !entry.name.endsWith(".new"))
      .map(({ name }) => join(folder, name));
  } catch (error) {
    if (hasErrorCode(error, "ENOENT")) return [];
    throw error;
  }
}

async function readOne(path: string, from: string): Promise<BackupFile | null> {
  try {
    const { size, mode } = await stat(from);
    if (size <= FILE_BYTES_MAX) return { path, mode: mode & 0o777, bytes: await readFile(from) };
    const message = `Cannot back up ${path}: it has ${size} bytes, and at most ${FILE_BYTES_MAX} are right`;
    throw new CaissonError("INVALID_CONFIG", message);
  } catch (error) {
    if (hasErrorCode(error, "ENOENT")) return null;
    throw error;
  }
}
