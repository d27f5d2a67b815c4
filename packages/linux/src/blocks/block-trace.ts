import {
  closeSync,
  constants,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  rmdirSync,
  writeFileSync,
} from "node:fs";
import { readdir, rmdir, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Descriptor } from "../calls/descriptor.ts";
import { passFaultPointSync } from "../calls/ffi.ts";
import { hasErrorCode, KernelError } from "../calls/kernel-error.ts";
import { createFileSystemMount } from "../mounts/mount.ts";

/** A request that a block device has finished. Starts are of no use: a block that is read between start and finish may be the old one. */
const EVENT = "events/block/block_rq_complete";
const SECTOR_BYTES = 512;
/** A completed request takes about 80 bytes, so this holds 25,000 of them between two looks, for each processor. */
const BUFFER_KIB = 2048;
const ALL_BUFFERS_KIB = 64 * 1024;
const LEAST_BUFFER_KIB = 256;
const READ_BYTES = 64 * 1024;
/** Fields of the statistics of each processor: what was overwritten before it was read, or never recorded. */
const LOSSES = /^(?:overrun|commit overrun|dropped events): (\d+)$/gm;
const LINE = /block_rq_complete: \d+,\d+ (\S*) \([^)]*\) (\d+) \+ (\d+) /;

/**
 * The kernel's tracing, for learning which blocks of a device are written. It is reached through a mount that is attached nowhere, so nothing of it is
 * seen on the host but the instances that are in use. What an owner that died left goes when the same owner opens it again.
 */
export class BlockTracing implements AsyncDisposable {
  readonly #mount: Descriptor;
  readonly #owner: string;
  #count = 0;

  private constructor(mount: Descriptor, owner: string) {
    this.#mount = mount;
    this.#owner = owner;
  }

  /** `owner` names the instances; one process at a time may use it. Throws a `KernelError` where the kernel does not offer tracing. */
  static async open(owner: string): Promise<BlockTracing> {
    const mount = await createFileSystemMount({ type: "tracefs", source: "tracefs" });
    try {
      const tracing = new BlockTracing(mount, owner);
      await stat(join(mount.path, EVENT, "enable"));
      await tracing.#removeLeftovers();
      return tracing;
    } catch (error) {
      await mount.close();
      if (hasErrorCode(error, "ENOENT")) throw new KernelError("trace", "ENOTSUP", EVENT, { cause: error });
      throw error;
    }
  }

  /** What a trace of the block device at `path` needs; it can be handed to another thread of this process. */
  async order(path: string): Promise<TraceOrder> {
    const { rdev } = await stat(path, { bigint: true });
    const major = ((rdev >> 8n) & 0xfffn) | ((rdev >> 32n) & ~0xfffn);
    const minor = (rdev & 0xffn) | ((rdev >> 12n) & 0xffffff00n);
    this.#count += 1;
    return {
      directory: join(this.#instances, `${this.#owner}.${this.#count}`),
      device: Number((major << 20n) | minor),
      path,
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#mount.close();
  }

  get #instances(): string {
    return join(this.#mount.path, "instances");
  }

  async #removeLeftovers(): Promise<void> {
    for (const name of await readdir(this.#instances))
      if (name.startsWith(`${this.#owner}.`)) await rmdir(join(this.#instances, name));
  }
}

export interface TraceOrder {
  /** Of the trace's own instance. */
  readonly directory: string;
  /** The device's number, as the kernel has it. */
  readonly device: number;
  /** The device's path, for error messages. */
  readonly path: string;
}

/** A trace that goes on with nobody reading it, as far as its buffer reaches. It can be handed to another thread of this process. */
export interface StandingTrace {
  readonly order: TraceOrder;
  /** Descriptor of its pipe. */
  readonly pipe: number;
}

/** Ends a trace that nobody resumes. */
export async function endStandingTrace({ order, pipe }: StandingTrace): Promise<void> {
  closeSync(pipe);
  await writeFile(join(order.directory, `${EVENT}/enable`), "0");
  await rmdir(order.directory);
}

/** Tells which sectors of a block device were written, from `start` on until it is disposed of. For a thread that may block. */
export class BlockTrace implements Disposable {
  readonly #order: TraceOrder;
  readonly #pipe: number;
  readonly #buffer = Buffer.alloc(READ_BYTES);
  readonly #statistics: readonly string[];
  #rest = "";
  #isStanding = false;

  private constructor(order: TraceOrder, pipe: number, statistics: readonly string[]) {
    this.#order = order;
    this.#pipe = pipe;
    this.#statistics = statistics;
  }

  /** `bufferFactor`: how many times the usual room for events. */
  static start(order: TraceOrder, bufferFactor = 1): BlockTrace {
    const { directory, device, path } = order;
    passFaultPointSync({ name: "trace", detail: path });
    mkdirSync(directory, { mode: 0o700 });
    let pipe: number | null = null;
    try {
      const write = (name: string, value: string | number): void => writeFileSync(join(directory, name), String(value));
      write("tracing_on", 0);
      // Those that this process may not run on have a buffer too.
      const statistics = statisticsOf(directory);
      const kib = Math.min(BUFFER_KIB, Math.max(LEAST_BUFFER_KIB, Math.floor(ALL_BUFFERS_KIB / statistics.length)));
      write("buffer_size_kb", kib * bufferFactor);
      // Without the context no name of a program is in a line, so no program can forge one.
      write("options/context-info", 0);
      write(`${EVENT}/filter`, `dev == ${device} && nr_sector > 0`);
      write(`${EVENT}/enable`, 1);
      pipe = openSync(join(directory, "trace_pipe"), constants.O_RDONLY | constants.O_NONBLOCK);
      passFaultPointSync({ name: "trace on", detail: path });
      write("tracing_on", 1);
      return new BlockTrace(order, pipe, statistics);
    } catch (error) {
      endAfterFailure(directory, pipe);
      throw error;
    }
  }

  /** Goes on with a trace that was left standing, or ends it and throws: what was written meanwhile is reported, or counted as lost. */
  static resume({ order, pipe }: StandingTrace): BlockTrace {
    try {
      return new BlockTrace(order, pipe, statisticsOf(order.directory));
    } catch (error) {
      endAfterFailure(order.directory, pipe);
      throw error;
    }
  }

  /** Leaves the trace standing: what is written from the last report on can be learned when it is resumed. The disposal then ends nothing. */
  leaveStanding(): StandingTrace {
    this.#isStanding = true;
    return { order: this.#order, pipe: this.#pipe };
  }

  /** Reports every write that was finished before this call and not reported yet. Discarded blocks are writes too. */
  drain(onWritten: (offset: number, length: number) => void): void {
    for (let bytes = this.#read(); bytes > 0; bytes = this.#read()) {
      const lines = (this.#rest + this.#buffer.toString("latin1", 0, bytes)).split("\n");
      this.#rest = lines.pop() ?? "";
      for (const line of lines) this.#report(line, onWritten);
    }
  }

  /** How many events are missing from the reports. They are not in the buffer any more, or were never recorded. */
  countLost(): number {
    let lost = 0;
    for (const path of this.#statistics)
      for (const [, count] of readFileSync(path, "utf8").matchAll(LOSSES)) lost += Number(count);
    return lost;
  }

  [Symbol.dispose](): void {
    if (this.#isStanding) return;
    endTrace(this.#order.directory, this.#pipe);
  }

  /** How many bytes it read; none when all that there was has been read. */
  #read(): number {
    try {
      return readSync(this.#pipe, this.#buffer, 0, this.#buffer.length, null);
    } catch (error) {
      if (hasErrorCode(error, "EAGAIN")) return 0;
      throw error;
    }
  }

  #report(line: string, onWritten: (offset: number, length: number) => void): void {
    // The kernel's own remark that events were lost; their number is counted elsewhere.
    if (line === "" || line.includes("LOST")) return;
    const [, operation, sector, sectors] = LINE.exec(line) ?? [];
    if (operation === undefined) throw new KernelError("trace", "EPROTO", `${this.#order.path}: cannot read ${line}`);
    if (operation.startsWith("R")) return;
    onWritten(Number(sector) * SECTOR_BYTES, Number(sectors) * SECTOR_BYTES);
  }
}

/** The instance cannot be removed while its pipe is open. */
function endTrace(directory: string, pipe: number | null): void {
  if (pipe !== null) closeSync(pipe);
  writeFileSync(join(directory, `${EVENT}/enable`), "0");
  rmdirSync(directory);
}

/** Ends what is there of a trace whose own failure is what the caller learns. What cannot be ended goes when its owner opens the tracing again. */
function endAfterFailure(directory: string, pipe: number | null): void {
  try {
    endTrace(directory, pipe);
  } catch (error) {
    process.emitWarning(`Cannot end the trace ${directory}: ${String(error)}`);
  }
}

function statisticsOf(directory: string): readonly string[] {
  const names = readdirSync(join(directory, "per_cpu")).filter((name) => name.startsWith("cpu"));
  return names.map((name) => join(directory, "per_cpu", name, "stats"));
}
