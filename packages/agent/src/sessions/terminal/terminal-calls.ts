import { errnoError, errnoName } from "../../calls/errors.ts";
import { closeDescriptor, OPEN, openDescriptor } from "../../files/names/libc.ts";

const SYMBOLS = {
  read: { parameters: ["i32", "buffer", "usize"], result: "isize" },
  write: { parameters: ["i32", "buffer", "usize"], result: "isize" },
  ioctl: { parameters: ["i32", "u64", "buffer"], result: "i32" },
  eventfd: { parameters: ["u32", "i32"], result: "i32" },
  poll: { parameters: ["buffer", "u64", "i32"], result: "i32", nonblocking: true },
  __errno_location: { parameters: [], result: "pointer" },
} as const;

/** Requests of ioctl_tty(2). */
const REQUEST = {
  unlock: 0x40045431n,
  number: 0x80045430n,
  setSize: 0x5414n,
  getModes: 0x5401n,
  setModes: 0x5402n,
} as const;
const READ_WRITE = 0o2;
const NO_CONTROLLING_TERMINAL = 0o400;
/** EFD_CLOEXEC | EFD_NONBLOCK */
const EVENT_FLAGS = 0o2004000;
const AGAIN = 11;

let loaded: Deno.DynamicLibrary<typeof SYMBOLS>["symbols"] | null = null;

/** The C library of Deno itself (`files/names/libc.ts`), loaded for the first terminal. */
function libc(): Deno.DynamicLibrary<typeof SYMBOLS>["symbols"] {
  loaded ??= Deno.dlopen("libc.so.6", SYMBOLS).symbols;
  return loaded;
}

function errno(): number {
  const location = libc().__errno_location();
  return location === null ? 0 : new Deno.UnsafePointerView(location).getInt32();
}

function checked(result: number, operation: string): number {
  if (result >= 0) return result;
  throw errnoError(errnoName(errno()), operation);
}

export interface OpenTerminal {
  /** Of the master, whose reads and writes never wait. */
  readonly descriptor: number;
  /** Of the other end. */
  readonly other: number;
  /** Of the other end. */
  readonly path: string;
}

/** Opens a new pseudo-terminal. Both descriptors are the caller's to close. */
export function openTerminal(): OpenTerminal {
  const flags = READ_WRITE | NO_CONTROLLING_TERMINAL;
  const descriptor = openDescriptor("/dev/ptmx", flags | OPEN.nonBlocking);
  try {
    checked(libc().ioctl(descriptor, REQUEST.unlock, new Uint8Array(4)), "unlock a terminal");
    const number = new Int32Array(1);
    checked(libc().ioctl(descriptor, REQUEST.number, new Uint8Array(number.buffer)), "ask a terminal's number");
    const path = `/dev/pts/${number[0]}`;
    return { descriptor, other: openDescriptor(path, flags), path };
  } catch (error) {
    closeDescriptor(descriptor);
    throw error;
  }
}

export function setSize(descriptor: number, size: Uint16Array<ArrayBuffer>): void {
  checked(libc().ioctl(descriptor, REQUEST.setSize, new Uint8Array(size.buffer)), "set a terminal's size");
}

/** Has `change` change the terminal's `struct termios` of the kernel. */
export function changeModes(descriptor: number, change: (termios: Uint8Array<ArrayBuffer>) => void): void {
  const termios = new Uint8Array(64);
  checked(libc().ioctl(descriptor, REQUEST.getModes, termios), "read a terminal's modes");
  change(termios);
  checked(libc().ioctl(descriptor, REQUEST.setModes, termios), "set a terminal's modes");
}

/** How many bytes were read; null where there are none yet, and 0 when there are no more: no program has the terminal open. */
export function readNow(descriptor: number, buffer: Uint8Array<ArrayBuffer>): number | null {
  const count = Number(libc().read(descriptor, buffer, BigInt(buffer.length)));
  if (count >= 0) return count;
  return errno() === AGAIN ? null : 0;
}

/** How many bytes were taken; null where there is no room yet. Throws when there never will be. */
export function writeNow(descriptor: number, bytes: Uint8Array<ArrayBuffer>): number | null {
  const count = Number(libc().write(descriptor, bytes, BigInt(bytes.length)));
  if (count >= 0) return count;
  const number = errno();
  if (number === AGAIN) return null;
  throw errnoError(errnoName(number), "write to a terminal");
}

export function openEvent(): number {
  return checked(libc().eventfd(0, EVENT_FLAGS), "make an event");
}

/** Waits in a thread of its own until one of the descriptors in `struct pollfd` is ready. */
export async function poll(descriptors: Uint8Array<ArrayBuffer>, count: number): Promise<void> {
  await libc().poll(descriptors, BigInt(count), -1);
}
