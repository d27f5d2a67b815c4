import { type Bytes, decodeBase64, encodeBase64 } from "../internal/bytes.ts";
import type { CallOptions, Connection } from "../internal/connection.ts";
import { untilClosed } from "../internal/until-closed.ts";
import { type FileInfo, type FileTime, toDateText, toFileInfo } from "./file-info.ts";

/** From where {@linkcode FsFile.seek} counts. */
export const SeekMode = {
  /** From the beginning of the file. */
  Start: 0,
  /** From the present position. */
  Current: 1,
  /** From the end of the file. */
  End: 2,
} as const;
export type SeekMode = (typeof SeekMode)[keyof typeof SeekMode];

/** How much one call reads or writes for the streams. */
const BLOCK_BYTES = 64 * 1024;

/** An open file, made by `sandbox.fs.open()` or `sandbox.fs.create()`. Close it when done; the sandbox closes it with the connection. */
export class FsFile implements AsyncDisposable {
  readonly #connection: Connection;
  readonly #fileHandleId: number;
  #isClosed = false;

  /** @internal */
  constructor(connection: Connection, fileHandleId: number) {
    this.#connection = connection;
    this.#fileHandleId = fileHandleId;
  }

  /** The file's content from the present position to its end. Leaves the file open. */
  get readable(): ReadableStream<Bytes> {
    return new ReadableStream<Bytes>(
      {
        pull: async (controller) => {
          const data = await this.#read(BLOCK_BYTES);
          if (data === null) controller.close();
          else if (data.byteLength > 0) controller.enqueue(data);
        },
      },
      { highWaterMark: 0 },
    );
  }

  /** Writes to the file at the present position. Leaves the file open. */
  get writable(): WritableStream<Uint8Array> {
    return new WritableStream<Uint8Array>({
      write: async (chunk) => {
        for (let offset = 0; offset < chunk.byteLength; ) offset += await this.write(chunk.subarray(offset));
      },
    });
  }

  /** Writes the bytes, or a part of them, and returns how many it wrote. */
  async write(p: Uint8Array, options?: CallOptions): Promise<number> {
    const params = { fileHandleId: this.#fileHandleId, data: encodeBase64(p) };
    return (await this.#connection.call("fileWrite", params, options)).bytesWritten;
  }

  /** Reads into `p` and returns how many bytes it read, possibly fewer than fit, or `null` at the end of the file. */
  async read(p: Uint8Array, options?: CallOptions): Promise<number | null> {
    const data = await this.#read(p.byteLength, options);
    if (data === null) return null;
    p.set(data);
    return data.byteLength;
  }

  /**
   * As {@linkcode read}, passing over zeros first: how many, and the bytes after them, empty where those are still to be read; `null` at the end.
   *
   * @internal
   */
  async readSparsely(length: number, options?: CallOptions): Promise<{ zeros: number; data: Bytes } | null> {
    const params = { fileHandleId: this.#fileHandleId, length, sparse: true };
    const { zeros = 0, data } = await this.#connection.call("fileRead", params, options);
    return data === null ? null : { zeros, data: decodeBase64(data) };
  }

  /**
   * Writes the bytes, of which blocks of zeros become holes where the file had nothing. The caller sets the length of the file at last.
   *
   * @internal
   */
  async writeSparsely(p: Uint8Array, options?: CallOptions): Promise<void> {
    const params = { fileHandleId: this.#fileHandleId, data: encodeBase64(p), sparse: true };
    await this.#connection.call("fileWrite", params, options);
  }

  /** Moves the position and returns the new one, in bytes from the start. Whole numbers beyond 2^53 are given as `bigint`. */
  async seek(offset: number | bigint, whence: SeekMode, options?: CallOptions): Promise<number> {
    const wireOffset = typeof offset === "bigint" ? offset.toString() : offset;
    const params = { fileHandleId: this.#fileHandleId, offset: wireOffset, whence };
    return (await this.#connection.call("fileSeek", params, options)).position;
  }

  /** Cuts the file off after `len` bytes, or fills it up with zeros to that length. Default: 0. */
  async truncate(len?: number, options?: CallOptions): Promise<void> {
    await this.#connection.call("fileTruncate", { fileHandleId: this.#fileHandleId, len }, options);
  }

  /** Describes the file. */
  async stat(options?: CallOptions): Promise<FileInfo> {
    return toFileInfo(await this.#connection.call("fileStat", { fileHandleId: this.#fileHandleId }, options));
  }

  /** Puts the file's data and metadata onto stable storage. */
  async sync(options?: CallOptions): Promise<void> {
    await this.#connection.call("fileSync", { fileHandleId: this.#fileHandleId }, options);
  }

  /** Puts the file's data onto stable storage. */
  async syncData(options?: CallOptions): Promise<void> {
    await this.#connection.call("fileSyncData", { fileHandleId: this.#fileHandleId }, options);
  }

  /** Sets the times of access and change; numbers are seconds since 1970. */
  async utime(atime: FileTime, mtime: FileTime, options?: CallOptions): Promise<void> {
    const params = { fileHandleId: this.#fileHandleId, atime: toDateText(atime), mtime: toDateText(mtime) };
    await this.#connection.call("fileUtime", params, options);
  }

  /** Takes the advisory lock on the file, shared or exclusive, waiting until it is free. Default: shared. */
  async lock(exclusive = false, options?: CallOptions): Promise<void> {
    await this.#connection.call("fileLock", { fileHandleId: this.#fileHandleId, exclusive }, options);
  }

  /** Gives the lock back. */
  async unlock(options?: CallOptions): Promise<void> {
    await this.#connection.call("fileUnlock", { fileHandleId: this.#fileHandleId }, options);
  }

  /** Closes the file. A second call does nothing. */
  async close(options?: CallOptions): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    await this.#connection.call("fileClose", { fileHandleId: this.#fileHandleId }, options);
  }

  /** Closes the file. When the connection is gone, so is the open file. */
  async [Symbol.asyncDispose](): Promise<void> {
    await untilClosed(() => this.close());
  }

  async #read(length: number, options?: CallOptions): Promise<Bytes | null> {
    const { data } = await this.#connection.call("fileRead", { fileHandleId: this.#fileHandleId, length }, options);
    return data === null ? null : decodeBase64(data);
  }
}
