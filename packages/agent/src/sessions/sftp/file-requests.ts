import { AppError, errnoError } from "../../calls/errors.ts";
import { fromBytes, toBytes } from "../../files/names/raw-name.ts";
import {
  link,
  lstat,
  mkdir,
  reach,
  reachOrCreate,
  readDir,
  readLink,
  realPath,
  remove,
  rename,
  symlink,
} from "../../files/names/reach.ts";
import { requireOpenableIfThere } from "../../files/openable.ts";
import { pathFrom } from "../../files/paths.ts";
import { longName, readAttributes, type WantedAttributes, writeAttributes, writeNoAttributes } from "./attributes.ts";
import { failureStatus } from "./failure-status.ts";
import { writeFileSystemFigures } from "./file-system-figures.ts";
import { OpenHandles } from "./open-handles.ts";
import { ANSWER, BadPacketError, OPEN_FLAG, PacketReader, PacketWriter, REQUEST, STATUS } from "./packets.ts";

const VERSION = 3;
/** With their versions, as OpenSSH has them. */
const EXTENSIONS = {
  "posix-rename@openssh.com": "1",
  "statvfs@openssh.com": "2",
  "fstatvfs@openssh.com": "2",
  "hardlink@openssh.com": "1",
  "fsync@openssh.com": "1",
} as const;
const READ_BYTES_MAX = 64 * 1024;
const NAMES_AT_A_TIME = 100;
const FILE_MODE = 0o666;
const DIRECTORY_MODE = 0o777;

/** Null: the request is done and has nothing to say. */
type Result = ((packet: PacketWriter) => number) | null;

/** Does what an SFTP client asks for, as the sandbox's user. */
export class FileRequests {
  readonly #home: string;
  readonly #handles = new OpenHandles();
  readonly #buffer = new Uint8Array(READ_BYTES_MAX);

  constructor(home: string) {
    this.#home = home;
  }

  close(): void {
    this.#handles.closeAll();
  }

  /** The answer to one packet. Throws `BadPacketError` for what is none; whatever else fails is in the answer. */
  async answer(bytes: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer>> {
    const packet = new PacketReader(bytes);
    const type = packet.uint8();
    if (type === REQUEST.init) return versionAnswer();
    const id = packet.uint32();
    try {
      const write = await this.#do(type, packet);
      if (write === null) return statusAnswer(id, STATUS.ok, "Success");
      const body = new PacketWriter();
      // Type and id stand in front of what is written, and the type is known only then.
      const answer = body.uint8(0).uint32(id);
      const answerType = write(answer);
      const finished = answer.finish();
      finished[4] = answerType;
      return finished;
    } catch (error) {
      if (error instanceof BadPacketError) throw error;
      if (error instanceof EndOfFile) return statusAnswer(id, STATUS.endOfFile, "End of file");
      if (error instanceof NotOffered) return statusAnswer(id, STATUS.notSupported, "Operation unsupported");
      const { code, message } = failureStatus(error);
      return statusAnswer(id, code, message);
    }
  }

  async #do(type: number, packet: PacketReader): Promise<Result> {
    switch (type) {
      case REQUEST.open:
        return await this.#open(this.#path(packet), packet.uint32(), readAttributes(packet));
      case REQUEST.close:
        this.#handles.close(packet.bytes());
        return null;
      case REQUEST.read:
        return await this.#read(packet.bytes(), packet.uint64(), packet.uint32());
      case REQUEST.write:
        return await this.#write(packet.bytes(), packet.uint64(), packet.bytes());
      case REQUEST.lstat:
        return attributesOf(await lstat(this.#path(packet)));
      case REQUEST.stat:
        return attributesOf(await reach(this.#path(packet), Deno.stat));
      case REQUEST.fstat:
        return attributesOf(await this.#handles.file(packet.bytes()).file.stat());
      case REQUEST.setStat:
        return await setAttributes(this.#path(packet), readAttributes(packet));
      case REQUEST.setFileStat:
        return await this.#setFileAttributes(packet.bytes(), readAttributes(packet));
      case REQUEST.openDirectory:
        return await this.#openDirectory(this.#path(packet));
      case REQUEST.readDirectory:
        return await this.#readDirectory(packet.bytes());
      case REQUEST.remove:
        return await removeFile(this.#path(packet));
      case REQUEST.makeDirectory: {
        const path = this.#path(packet);
        await mkdir(path, { recursive: false, mode: readAttributes(packet).permissions ?? DIRECTORY_MODE });
        return null;
      }
      case REQUEST.removeDirectory:
        return await removeDirectory(this.#path(packet));
      case REQUEST.realPath: {
        const path = await resolved(this.#path(packet));
        return (answer) => writeNames(answer, [{ name: path, info: null }]);
      }
      case REQUEST.rename:
        return await renameToNew(this.#path(packet), this.#path(packet));
      case REQUEST.readLink: {
        const target = await readLink(this.#path(packet));
        return (answer) => writeNames(answer, [{ name: target, info: null }]);
      }
      case REQUEST.symlink: {
        // In the order of OpenSSH, which every client follows: the text comes first.
        const text = fromBytes(packet.bytes());
        await symlink(text, this.#path(packet));
        return null;
      }
      case REQUEST.extended:
        return await this.#extended(new TextDecoder().decode(packet.bytes()), packet);
      default:
        throw new NotOffered();
    }
  }

  async #extended(name: string, packet: PacketReader): Promise<Result> {
    switch (name) {
      case "posix-rename@openssh.com":
        await rename(this.#path(packet), this.#path(packet));
        return null;
      case "hardlink@openssh.com":
        await link(this.#path(packet), this.#path(packet));
        return null;
      case "fsync@openssh.com":
        await this.#handles.file(packet.bytes()).file.sync();
        return null;
      case "statvfs@openssh.com":
        return figuresOf(this.#path(packet));
      case "fstatvfs@openssh.com":
        return figuresOf(this.#handles.file(packet.bytes()).path);
      default:
        throw new NotOffered();
    }
  }

  /** Absolute, or relative to the home directory. */
  #path(packet: PacketReader): string {
    const path = fromBytes(packet.bytes());
    return pathFrom(this.#home, path === "" ? "." : path);
  }

  async #open(path: string, flags: number, attributes: WantedAttributes): Promise<Result> {
    this.#handles.requireRoom();
    await reach(path, requireOpenableIfThere).catch((error: unknown) => {
      if (error instanceof AppError && error.code === "ENOTSUP") throw error;
    });
    const has = (flag: number): boolean => (flags & flag) !== 0;
    const isNew = has(OPEN_FLAG.create) && has(OPEN_FLAG.exclusive);
    const creation = {
      create: has(OPEN_FLAG.create) && !isNew,
      createNew: isNew,
      mode: attributes.permissions ?? FILE_MODE,
    };
    const isWritten = has(OPEN_FLAG.write) || has(OPEN_FLAG.create);
    const file = await reachOrCreate(path, creation, (reached, left) =>
      Deno.open(reached, {
        read: has(OPEN_FLAG.read) || !isWritten,
        write: isWritten && !has(OPEN_FLAG.append),
        append: has(OPEN_FLAG.append),
        truncate: has(OPEN_FLAG.truncate) && isWritten && !isNew,
        ...left,
      }),
    );
    const name = this.#handles.add({ kind: "file", path, file });
    return handleAnswer(name);
  }

  async #read(handle: Uint8Array<ArrayBuffer>, offset: number, wanted: number): Promise<Result> {
    const { file } = this.#handles.file(handle);
    await file.seek(offset, Deno.SeekMode.Start);
    const count = await file.read(this.#buffer.subarray(0, Math.min(wanted, READ_BYTES_MAX)));
    if (count === null) throw new EndOfFile();
    return (answer) => {
      answer.bytes(this.#buffer.subarray(0, count));
      return ANSWER.data;
    };
  }

  async #write(handle: Uint8Array<ArrayBuffer>, offset: number, data: Uint8Array<ArrayBuffer>): Promise<Result> {
    const { file } = this.#handles.file(handle);
    await file.seek(offset, Deno.SeekMode.Start);
    for (let rest = data; rest.length > 0; ) rest = rest.subarray(await file.write(rest));
    return null;
  }

  async #setFileAttributes(
    handle: Uint8Array<ArrayBuffer>,
    { size, times, ...rest }: WantedAttributes,
  ): Promise<Result> {
    const { file, path } = this.#handles.file(handle);
    if (size !== undefined) await file.truncate(size);
    // Deno has these for paths only.
    await setAttributes(path, rest);
    if (times !== undefined) await file.utime(times.atime, times.mtime);
    return null;
  }

  async #openDirectory(path: string): Promise<Result> {
    this.#handles.requireRoom();
    if (!(await reach(path, Deno.stat)).isDirectory) throw errnoError("ENOTDIR", "open a directory");
    const name = this.#handles.add({ kind: "directory", path, names: namesOf(path) });
    return handleAnswer(name);
  }

  async #readDirectory(handle: Uint8Array<ArrayBuffer>): Promise<Result> {
    const { path, names } = this.#handles.directory(handle);
    const found: NamedInfo[] = [];
    while (found.length < NAMES_AT_A_TIME) {
      const { value: name, done } = await names.next();
      if (done === true || name === undefined) break;
      // One that has gone meanwhile is left out.
      const info = await lstat(`${path}/${name}`).catch(() => null);
      if (info !== null) found.push({ name, info });
    }
    if (found.length === 0) throw new EndOfFile();
    return (answer) => writeNames(answer, found);
  }
}

class EndOfFile extends Error {}
class NotOffered extends Error {}

interface NamedInfo {
  readonly name: string;
  readonly info: Deno.FileInfo | null;
}

async function* namesOf(path: string): AsyncGenerator<string> {
  yield ".";
  yield "..";
  for await (const { name } of readDir(path, true)) yield name;
}

async function removeFile(path: string): Promise<null> {
  if ((await lstat(path)).isDirectory) throw errnoError("EISDIR", "remove a file");
  await remove(path);
  return null;
}

async function removeDirectory(path: string): Promise<null> {
  if (!(await lstat(path)).isDirectory) throw errnoError("ENOTDIR", "remove a directory");
  await remove(path);
  return null;
}

/** Version 3 says that nothing is replaced; the extension replaces. */
async function renameToNew(from: string, to: string): Promise<null> {
  const isThere = await lstat(to).then(
    () => true,
    () => false,
  );
  if (isThere) throw errnoError("EEXIST", "rename");
  await rename(from, to);
  return null;
}

/** The whole path, also of something that is not there yet. */
async function resolved(path: string): Promise<string> {
  try {
    return await realPath(path);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    const [, parent = "/", name = ""] = /^(.*)\/([^/]+)\/*$/.exec(path) ?? [];
    if (name === "" || name === "." || name === "..") throw error;
    const above = await realPath(parent === "" ? "/" : parent);
    return `${above === "/" ? "" : above}/${name}`;
  }
}

async function setAttributes(path: string, { size, owner, permissions, times }: WantedAttributes): Promise<null> {
  await reach(path, async (reached) => {
    if (size !== undefined) await Deno.truncate(reached, size);
    if (owner !== undefined) await Deno.chown(reached, owner.uid, owner.gid);
    if (permissions !== undefined) await Deno.chmod(reached, permissions);
    if (times !== undefined) await Deno.utime(reached, times.atime, times.mtime);
  });
  return null;
}

function attributesOf(info: Deno.FileInfo): Result {
  return (answer) => {
    writeAttributes(answer, info);
    return ANSWER.attributes;
  };
}

function figuresOf(path: string): Result {
  return (answer) => {
    writeFileSystemFigures(answer, path);
    return ANSWER.extended;
  };
}

function handleAnswer(name: Uint8Array): Result {
  return (answer) => {
    answer.bytes(name);
    return ANSWER.handle;
  };
}

function writeNames(answer: PacketWriter, names: readonly NamedInfo[]): number {
  answer.uint32(names.length);
  for (const { name, info } of names) {
    const bytes = toBytes(name).subarray(0, -1);
    answer.bytes(bytes);
    if (info === null) {
      answer.bytes(bytes);
      writeNoAttributes(answer);
    } else {
      answer.bytes(toBytes(longName(name, info)).subarray(0, -1));
      writeAttributes(answer, info);
    }
  }
  return ANSWER.names;
}

function versionAnswer(): Uint8Array<ArrayBuffer> {
  const answer = new PacketWriter().uint8(ANSWER.version).uint32(VERSION);
  for (const [name, version] of Object.entries(EXTENSIONS)) answer.text(name).text(version);
  return answer.finish();
}

function statusAnswer(id: number, code: number, message: string): Uint8Array<ArrayBuffer> {
  return new PacketWriter().uint8(ANSWER.status).uint32(id).uint32(code).text(message).text("en").finish();
}
