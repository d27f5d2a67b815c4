import { type Bytes, decodeBase64, encodeBase64 } from "../internal/bytes.ts";
import type { CallOptions, Connection } from "../internal/connection.ts";
import { orAbort } from "../internal/or-abort.ts";
import { toPath } from "../internal/path.ts";
import { type FileInfo, type FileTime, toDateText, toFileInfo } from "./file-info.ts";
import { FsFile } from "./fs-file.ts";
import type {
  DirEntry,
  ExpandGlobOptions,
  MakeTempOptions,
  MkdirOptions,
  OpenOptions,
  ReadFileOptions,
  RemoveOptions,
  TransferOptions,
  WalkEntry,
  WalkOptions,
  WriteFileOptions,
} from "./options.ts";
import { localSource } from "./transfer/local-source.ts";
import { localTarget } from "./transfer/local-target.ts";
import { SandboxSource } from "./transfer/sandbox-source.ts";
import { SandboxTarget } from "./transfer/sandbox-target.ts";
import { transfer } from "./transfer/transfer.ts";

type Path = string | URL;

/** Longer content travels in pieces, so that neither side holds it whole as one message. */
const INLINE_LIMIT = 1024 * 1024;

/**
 * The sandbox's files. Relative paths start from the sandbox's default directory, `/home/app`. Failures raise errors of the classes in
 * {@linkcode errors}, with the name of the errno in `code`: a missing file raises `NotFound` with `ENOENT`.
 */
export class SandboxFs {
  readonly #connection: Connection;

  /** @internal */
  constructor(connection: Connection) {
    this.#connection = connection;
  }

  /** Reads a whole file. */
  async readFile(path: Path, options: ReadFileOptions = {}): Promise<Bytes> {
    return decodeBase64(await this.#connection.callAbortable("readFile", { path: toPath(path) }, options.signal));
  }

  /** Reads a whole file as UTF-8 text. */
  async readTextFile(path: Path, options: ReadFileOptions = {}): Promise<string> {
    return await this.#connection.callAbortable("readTextFile", { path: toPath(path) }, options.signal);
  }

  /** Writes a whole file, replacing what it held unless the options say otherwise. */
  async writeFile(
    path: Path,
    data: Uint8Array | ReadableStream<Uint8Array>,
    options: WriteFileOptions = {},
  ): Promise<void> {
    if (data instanceof Uint8Array && data.byteLength <= INLINE_LIMIT) {
      const params = { path: toPath(path), options: writeOptions(options), content: encodeBase64(data) };
      await this.#connection.callAbortable("writeFile", params, options.signal);
    } else {
      await this.#writeStream("writeFile", path, data instanceof Uint8Array ? streamOf(data) : data, options);
    }
  }

  /** Writes a whole file as UTF-8 text, replacing what it held unless the options say otherwise. */
  async writeTextFile(
    path: Path,
    data: string | ReadableStream<string>,
    options: WriteFileOptions = {},
  ): Promise<void> {
    if (typeof data !== "string") {
      await this.#writeStream("writeTextFile", path, data.pipeThrough(new TextEncoderStream()), options);
    } else if (data.length <= INLINE_LIMIT) {
      const params = { path: toPath(path), options: writeOptions(options), content: data };
      await this.#connection.callAbortable("writeTextFile", params, options.signal);
    } else {
      await this.#writeStream("writeTextFile", path, streamOf(new TextEncoder().encode(data)), options);
    }
  }

  /** Lists a directory, in no particular order. */
  async *readDir(path: Path, options?: CallOptions): AsyncIterableIterator<DirEntry> {
    yield* await this.#connection.call("readDir", { path: toPath(path), escapeNames: true }, options);
  }

  /** Removes a file or an empty directory; with `recursive` a directory with everything in it. */
  async remove(path: Path, options: RemoveOptions = {}): Promise<void> {
    const { recursive, signal } = options;
    await this.#connection.call("remove", { path: toPath(path), options: { recursive } }, { signal });
  }

  /** Makes a directory. */
  async mkdir(path: Path, options: MkdirOptions = {}): Promise<void> {
    const { recursive, mode, signal } = options;
    await this.#connection.call("mkdir", { path: toPath(path), options: { recursive, mode } }, { signal });
  }

  /** Moves a file or directory, replacing a file that is there. Does not follow links. */
  async rename(oldPath: Path, newPath: Path, options?: CallOptions): Promise<void> {
    await this.#connection.call("rename", { oldPath: toPath(oldPath), newPath: toPath(newPath) }, options);
  }

  /** Copies a file with its permissions, replacing what is there. */
  async copyFile(fromPath: Path, toPath_: Path, options?: CallOptions): Promise<void> {
    await this.#connection.call("copyFile", { fromPath: toPath(fromPath), toPath: toPath(toPath_) }, options);
  }

  /** Describes a file; for a link, what it leads to. */
  async stat(path: Path, options?: CallOptions): Promise<FileInfo> {
    return toFileInfo(await this.#connection.call("stat", { path: toPath(path) }, options));
  }

  /** Describes a file; for a link, the link itself. */
  async lstat(path: Path, options?: CallOptions): Promise<FileInfo> {
    return toFileInfo(await this.#connection.call("lstat", { path: toPath(path) }, options));
  }

  /** Sets permissions, for example `0o755`. The umask has no part in it. */
  async chmod(path: Path, mode: number, options?: CallOptions): Promise<void> {
    await this.#connection.call("chmod", { path: toPath(path), mode }, options);
  }

  /** Sets the owner and the group; `null` leaves one as it is. */
  async chown(path: Path, uid: number | null, gid: number | null, options?: CallOptions): Promise<void> {
    await this.#connection.call("chown", { path: toPath(path), uid, gid }, options);
  }

  /** Makes `path` another name of the file `target`. */
  async link(target: Path, path: Path, options?: CallOptions): Promise<void> {
    await this.#connection.call("link", { target: toPath(target), path: toPath(path) }, options);
  }

  /** Makes `path` a symbolic link with the text `target`. The `type` matters to other systems only. */
  async symlink(
    target: Path,
    path: Path,
    options: { type?: "file" | "dir" | "junction"; signal?: AbortSignal } = {},
  ): Promise<void> {
    const { type, signal } = options;
    await this.#connection.call(
      "symlink",
      { target: toPath(target), path: toPath(path), options: { type } },
      { signal },
    );
  }

  /** Returns the text of a symbolic link. */
  async readLink(path: Path, options?: CallOptions): Promise<string> {
    return await this.#connection.call("readLink", { path: toPath(path) }, options);
  }

  /** Returns the absolute path with all links followed. */
  async realPath(path: Path, options?: CallOptions): Promise<string> {
    return await this.#connection.call("realPath", { path: toPath(path) }, options);
  }

  /** Cuts a file off after `length` bytes, or fills it up with zeros to that length. Default: 0. */
  async truncate(name: Path, length?: number, options?: CallOptions): Promise<void> {
    await this.#connection.call("truncate", { name: toPath(name), length }, options);
  }

  /** Sets the times of access and change; numbers are seconds since 1970. */
  async utime(path: Path, atime: FileTime, mtime: FileTime, options?: CallOptions): Promise<void> {
    const params = { path: toPath(path), atime: toDateText(atime), mtime: toDateText(mtime) };
    await this.#connection.call("utime", params, options);
  }

  /** Returns the umask of file calls as it was before, and sets it when `mask` is given. */
  async umask(mask?: number, options?: CallOptions): Promise<number> {
    return await this.#connection.call("umask", { mask }, options);
  }

  /** Makes an empty directory with a new name and returns its absolute path. Removing it is the caller's business. */
  async makeTempDir(options: MakeTempOptions = {}): Promise<string> {
    const { signal, ...rest } = options;
    return await this.#connection.call("makeTempDir", { options: rest }, { signal });
  }

  /** Makes an empty file with a new name and returns its absolute path. Removing it is the caller's business. */
  async makeTempFile(options: MakeTempOptions = {}): Promise<string> {
    const { signal, ...rest } = options;
    return await this.#connection.call("makeTempFile", { options: rest }, { signal });
  }

  /** Opens a file. */
  async open(path: Path, options: OpenOptions = {}): Promise<FsFile> {
    const { signal, ...rest } = options;
    return await this.#openFile(this.#connection.call("open", { path: toPath(path), options: rest }), signal);
  }

  /** Makes or empties a file and opens it for reading and writing. */
  async create(path: Path, options: CallOptions = {}): Promise<FsFile> {
    return await this.#openFile(this.#connection.call("create", { path: toPath(path) }), options.signal);
  }

  /** Walks a directory tree, the root first. */
  async *walk(path: Path, options: WalkOptions = {}): AsyncIterableIterator<WalkEntry> {
    const { signal, ...rest } = options;
    const match = options.match?.map(toWirePattern);
    const skip = options.skip?.map(toWirePattern);
    yield* this.#entries(
      this.#connection.call("walk", { ...rest, path: toPath(path), match, skip, escapeNames: true }),
      signal,
    );
  }

  /** Yields what a glob matches, with absolute paths, sorted. */
  async *expandGlob(glob: Path, options: ExpandGlobOptions = {}): AsyncIterableIterator<WalkEntry> {
    const { signal, ...rest } = options;
    yield* this.#entries(
      this.#connection.call("expandGlob", { ...rest, glob: toPath(glob), escapeNames: true }),
      signal,
    );
  }

  /**
   * Copies a local file to `sandboxPath`, or a local directory with everything in it into the directory `sandboxPath`, under its own
   * name. Permissions are kept; links stay links; several names of one file become several files; directories that are missing are made,
   * and what is there already is replaced. Named pipes, sockets, devices and what cannot be read are left out: see
   * {@linkcode TransferOptions.onSkip}.
   */
  async upload(localPath: Path, sandboxPath: Path, options: TransferOptions = {}): Promise<void> {
    const target = new SandboxTarget(this, options.signal);
    await transfer(localSource, toPath(localPath), target, toPath(sandboxPath), options);
  }

  /**
   * Copies a file of the sandbox to `localPath`, or a directory with everything in it into the directory `localPath`, under its own
   * name, as {@linkcode upload} does in the other direction. Nothing is ever written outside `localPath`, whatever the sandbox claims.
   * Blocks of zeros become holes.
   */
  async download(sandboxPath: Path, localPath: Path, options: TransferOptions = {}): Promise<void> {
    const source = new SandboxSource(this, options.signal);
    await transfer(source, toPath(sandboxPath), localTarget, toPath(localPath), options);
  }

  /** Copies a file or directory to another sandbox, as {@linkcode upload} does, through this process and without a copy on its disk. */
  async copyTo(path: Path, target: SandboxFs, targetPath: Path, options: TransferOptions = {}): Promise<void> {
    const { signal } = options;
    await transfer(
      new SandboxSource(this, signal),
      toPath(path),
      new SandboxTarget(target, signal),
      toPath(targetPath),
      options,
    );
  }

  async #writeStream(
    method: "writeFile" | "writeTextFile",
    path: Path,
    source: ReadableStream<Uint8Array>,
    options: WriteFileOptions,
  ): Promise<void> {
    options.signal?.throwIfAborted();
    await this.#connection.callWithSource(source, (contentStreamId) => {
      const params = { path: toPath(path), options: writeOptions(options), contentStreamId };
      return this.#connection.callAbortable(method, params, options.signal);
    });
  }

  /** The sandbox sends one entry in each chunk (protocol.md 4.2.1). */
  async *#entries(
    call: Promise<{ readonly streamId: number }>,
    signal: AbortSignal | undefined,
  ): AsyncIterableIterator<WalkEntry> {
    const connection = this.#connection;
    const { streamId } = await orAbort(call, signal, (late) => connection.release(connection.receive(late.streamId)));
    const stream = connection.receive(streamId);
    const stop = (): void => connection.release(stream, { error: signal?.reason });
    signal?.addEventListener("abort", stop, { once: true });
    const decoder = new TextDecoder();
    try {
      for await (const chunk of stream.readable) {
        signal?.throwIfAborted();
        yield JSON.parse(decoder.decode(chunk));
      }
    } finally {
      signal?.removeEventListener("abort", stop);
    }
  }

  async #openFile(call: Promise<{ readonly fileHandleId: number }>, signal: AbortSignal | undefined): Promise<FsFile> {
    const open = ({ fileHandleId }: { readonly fileHandleId: number }) => new FsFile(this.#connection, fileHandleId);
    return open(
      await orAbort(
        call,
        signal,
        (late) =>
          void open(late)
            .close()
            .catch(() => undefined),
      ),
    );
  }
}

function writeOptions({ append, create, createNew, mode }: WriteFileOptions): Omit<WriteFileOptions, "signal"> {
  return {
    ...(append === undefined ? {} : { append }),
    ...(create === undefined ? {} : { create }),
    ...(createNew === undefined ? {} : { createNew }),
    ...(mode === undefined ? {} : { mode }),
  };
}

function toWirePattern({ source, flags }: RegExp): { readonly source: string; readonly flags: string } {
  return { source, flags };
}

function streamOf(bytes: Uint8Array): ReadableStream<Uint8Array> {
  return new ReadableStream({
    start(controller) {
      controller.enqueue(bytes);
      controller.close();
    },
  });
}
