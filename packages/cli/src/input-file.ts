import { constants, openSync } from "node:fs";
import { open, stat } from "node:fs/promises";
import { Socket } from "node:net";
import type { Readable } from "node:stream";
import { usageError } from "./cli-error.ts";

/** A file that is being read. */
export interface InputFile {
  readonly stream: Readable;
  /** `null`: not known before its end. */
  readonly sizeBytes: number | null;
}

/**
 * Opens a file, a disk or a named pipe for reading, so that destroying the stream always ends the wait. A pipe whose writer is still to come
 * would else hold a thread of this process, which then could not end. Other devices are refused.
 */
export async function openInput(path: string): Promise<InputFile> {
  const info = await stat(path);
  if (info.isFIFO()) {
    // A handle would close the descriptor a second time when it is collected.
    const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    return { stream: new Socket({ fd, readable: true, writable: false }), sizeBytes: null };
  }
  if (!info.isFile() && !info.isBlockDevice())
    throw usageError(`Cannot read ${path}: it is neither a file nor a pipe`, "Name a file, or - for standard input.");
  const handle = await open(path, "r");
  return { stream: handle.createReadStream(), sizeBytes: info.isFile() ? info.size : null };
}
