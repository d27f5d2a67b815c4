import { closeSync, readSync } from "node:fs";
import { Socket } from "node:net";
import { duplicateDescriptor, type HasDescriptor } from "../calls/descriptor.ts";
import { callSync } from "../calls/ffi.ts";
import { errnoName, KernelError } from "../calls/kernel-error.ts";
import { type ProgramEnd, watchChild } from "./watch-child.ts";

const O_CLOEXEC = 0o2000000;
const O_RDWR = 2;
const HIGH_DESCRIPTOR = 4096;
/** More than a `posix_spawn_file_actions_t` and a `posix_spawnattr_t` take in any C library that Node runs on. */
const STRUCTURE_BYTES = 1024;
const SIGNAL_SET_BYTES = 128;
const POSIX_SPAWN_SETSIGDEF = 0x04;
const POSIX_SPAWN_SETSIGMASK = 0x08;

export interface SpawnOptions {
  /** `pipe`, or an open file to be its standard input, which stays the caller's. Default: `/dev/null`. */
  readonly input?: "pipe" | HasDescriptor;
  /** What becomes of its standard output and error. Default: `/dev/null`. */
  readonly output?: "pipe";
  /** The whole environment; `undefined` is no variable. Default: this process's. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** Default: this process's. */
  readonly workingDirectory?: string;
}

/** A program that runs. Its pipes are the caller's to read, to write and to destroy. */
export interface SpawnedProgram {
  readonly pid: number;
  readonly stdin: Socket | null;
  readonly stdout: Socket | null;
  readonly stderr: Socket | null;
  /** Its end, when this process has given its id back to the kernel. Never rejects. */
  readonly ended: Promise<ProgramEnd>;
  /** Nothing happens when it has ended. */
  kill(signal: NodeJS.Signals): void;
}

/**
 * Starts a program, as Node's own `spawn` does, but not by copying this process: Node's `fork` copies the page tables, and everything that the server does waits for that, for each program. Here a program shares the memory until it begins
 * (`posix_spawn`, which is `vfork`), whatever this process has. Signals are as a fresh program has them. `name` is looked up in this process's PATH. Only for the main thread. Throws a `KernelError` when it cannot be started.
 */
export function spawnProgram(name: string, args: readonly string[], options: SpawnOptions = {}): SpawnedProgram {
  const theirs: number[] = [];
  const ours: Socket[] = [];
  try {
    const pipe = (own: "readable" | "writable"): readonly [Socket, number] => {
      const [read, write] = openPipe();
      const [mine, other] = own === "readable" ? [read, write] : [write, read];
      theirs.push(other);
      const socket = new Socket({ fd: mine, readable: own === "readable", writable: own === "writable" });
      ours.push(socket);
      return [socket, other];
    };
    const { input, output } = options;
    const [stdin, inputEnd] = input === "pipe" ? pipe("writable") : [null, input?.fd ?? null];
    const [stdout, outputEnd] = output === "pipe" ? pipe("readable") : [null, null];
    const [stderr, errorsEnd] = output === "pipe" ? pipe("readable") : [null, null];
    const pid = start(name, args, options, [inputEnd, outputEnd, errorsEnd]);
    ours.length = 0;
    return { pid, stdin, stdout, stderr, ...watchChild(pid) };
  } finally {
    for (const fd of theirs) closeSync(fd);
    for (const socket of ours) socket.destroy();
  }
}

/** Descriptors to read from and to write to. */
function openPipe(): readonly [number, number] {
  const ends = Buffer.alloc(8);
  callSync("pipe2", [ends, O_CLOEXEC], { name: "pipe2", detail: "for a program" });
  return [ends.readInt32LE(0), ends.readInt32LE(4)];
}

/** Its process id. `descriptors` are its standard ones; null: `/dev/null`. */
function start(
  name: string,
  args: readonly string[],
  { env = process.env, workingDirectory }: SpawnOptions,
  descriptors: readonly (number | null)[],
): number {
  const actions = Buffer.alloc(STRUCTURE_BYTES);
  const attributes = Buffer.alloc(STRUCTURE_BYTES);
  const about = { name: "posix_spawn", detail: name };
  // These return what others leave in errno.
  const check = (errno: number): void => {
    if (errno !== 0) throw new KernelError(about.name, errnoName(errno), name);
  };
  check(callSync("spawnActionsInit", [actions], about));
  check(callSync("spawnAttributesInit", [attributes], about));
  try {
    descriptors.forEach((fd, standard) => {
      if (fd === null) check(callSync("spawnActionOpen", [actions, standard, "/dev/null", O_RDWR, 0], about));
      else check(callSync("spawnActionDuplicate", [actions, fd, standard], about));
    });
    if (workingDirectory !== undefined) check(callSync("spawnActionDirectory", [actions, workingDirectory], about));
    // Node ignores some signals, which a program would inherit.
    check(callSync("spawnSignalDefaults", [attributes, Buffer.alloc(SIGNAL_SET_BYTES, 0xff)], about));
    check(callSync("spawnSignalMask", [attributes, Buffer.alloc(SIGNAL_SET_BYTES)], about));
    check(callSync("spawnFlags", [attributes, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK], about));
    const pid = Buffer.alloc(4);
    const variables = Object.entries(env).flatMap(([key, value]) => (value === undefined ? [] : [`${key}=${value}`]));
    const words = [
      [name, ...args, null],
      [...variables, null],
    ] as const;
    // On this thread, which waits until the program has begun: until then it has a copy of every descriptor, so that what this thread closed meanwhile would still be open.
    untilBegun(() => check(callSync("posixSpawn", [pid, name, actions, attributes, ...words], about)));
    return pid.readInt32LE(0);
  } finally {
    callSync("spawnActionsDestroy", [actions], about);
    callSync("spawnAttributesDestroy", [attributes], about);
  }
}

/** Goes on when all that `begin` made the program inherit for a moment is closed in there: `vfork` lets this process go on a little before. */
function untilBegun(begin: () => void): void {
  const [read, write] = openPipe();
  // The kernel closes the lowest numbers first.
  const last = duplicateAbove(write);
  try {
    begin();
  } finally {
    for (const fd of new Set([write, last])) closeSync(fd);
    // Its end comes when nobody else has the other one any more.
    readSync(read, Buffer.alloc(1));
    closeSync(read);
  }
}

/** The same descriptor where this process may have so high a number. */
function duplicateAbove(fd: number): number {
  try {
    return duplicateDescriptor({ fd }, HIGH_DESCRIPTOR);
  } catch {
    return fd;
  }
}
