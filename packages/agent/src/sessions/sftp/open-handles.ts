import { AppError, errnoError } from "../../calls/errors.ts";

const HANDLES_MAX = 1024;

export interface OpenFile {
  readonly kind: "file";
  readonly path: string;
  readonly file: Deno.FsFile;
}

/** A directory that is being read. */
export interface OpenDirectory {
  readonly kind: "directory";
  readonly path: string;
  readonly names: Iterator<string> | AsyncIterator<string>;
}

/** The files and directories that one client has open. */
export class OpenHandles {
  readonly #handles = new Map<number, OpenFile | OpenDirectory>();
  #lastId = 0;

  /** Throws before there is anything to close. */
  requireRoom(): void {
    if (this.#handles.size >= HANDLES_MAX) throw errnoError("EMFILE", `open more than ${HANDLES_MAX} files`);
  }

  add(handle: OpenFile | OpenDirectory): Uint8Array {
    this.#lastId += 1;
    this.#handles.set(this.#lastId, handle);
    const name = new Uint8Array(4);
    new DataView(name.buffer).setUint32(0, this.#lastId);
    return name;
  }

  file(name: Uint8Array<ArrayBuffer>): OpenFile {
    const handle = this.#handles.get(idOf(name));
    if (handle?.kind === "file") return handle;
    throw new AppError("BadResource", "This is no open file", "EBADF");
  }

  directory(name: Uint8Array<ArrayBuffer>): OpenDirectory {
    const handle = this.#handles.get(idOf(name));
    if (handle?.kind === "directory") return handle;
    throw new AppError("BadResource", "This is no open directory", "EBADF");
  }

  close(name: Uint8Array<ArrayBuffer>): void {
    const id = idOf(name);
    const handle = this.#handles.get(id);
    if (handle === undefined) throw new AppError("BadResource", "This is not open", "EBADF");
    this.#handles.delete(id);
    if (handle.kind === "file") handle.file.close();
  }

  closeAll(): void {
    for (const handle of this.#handles.values()) if (handle.kind === "file") handle.file.close();
    this.#handles.clear();
  }
}

function idOf(name: Uint8Array<ArrayBuffer>): number {
  return name.length === 4 ? new DataView(name.buffer, name.byteOffset, 4).getUint32(0) : 0;
}
