import { readFile } from "node:fs/promises";
import { hasErrorCode } from "@caisson/linux";
import { writeDurably } from "../write-durably.ts";

const NAME = "port";

/**
 * The port that was chosen at an earlier start because the default one was taken; null: none. Clients have it in their files, so that it is kept, also when the default
 * one is free again. A file that holds none counts as absent: then one is chosen anew.
 */
export async function readChosenPort(directory: string): Promise<number | null> {
  try {
    const port = Number((await readFile(`${directory}/${NAME}`, "utf8")).trim());
    return Number.isInteger(port) && port >= 1 && port <= 65_535 ? port : null;
  } catch (error) {
    if (hasErrorCode(error, "ENOENT")) return null;
    throw error;
  }
}

/** Remembers it for the next start. */
export async function writeChosenPort(directory: string, port: number): Promise<void> {
  await writeDurably(directory, NAME, `${port}\n`, 0o644, "ssh-port.file");
}
