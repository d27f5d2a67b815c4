import { close } from "node:fs";
import { promisify } from "node:util";
import { callSync } from "./ffi.ts";

const closeDescriptor = promisify(close);
const F_DUPFD_CLOEXEC = 1030;

/** Anything with a file descriptor: a `Descriptor`, or a `FileHandle` of Node. */
export interface HasDescriptor {
  readonly fd: number;
}

/** A descriptor that a kernel call returned. It has one owner, who closes it: `await using tree = …`. Closing it again does nothing. */
export class Descriptor implements HasDescriptor, AsyncDisposable {
  readonly fd: number;
  #isOpen = true;

  constructor(fd: number) {
    this.fd = fd;
  }

  /** A path by which this process, and only it, reaches the open file. */
  get path(): string {
    return `/proc/self/fd/${this.fd}`;
  }

  async close(): Promise<void> {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    await closeDescriptor(this.fd);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

/** Another descriptor of the same open file, which the caller closes. Its number is `atLeast` or higher; throws `EINVAL` where this process may have none so high. */
export function duplicateDescriptor({ fd }: HasDescriptor, atLeast = 0): number {
  return callSync("fcntl", [fd, F_DUPFD_CLOEXEC, atLeast], { name: "fcntl", detail: `to duplicate descriptor ${fd}` });
}
