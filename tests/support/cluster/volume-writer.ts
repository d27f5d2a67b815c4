import { setTimeout as delay } from "node:timers/promises";
import { testTimeoutMs } from "@caisson/linux/testing";
import { Client, type Sandbox } from "@caisson/sdk";
import type { Fleet, ServerMachine } from "./fleet.ts";
import { type FileContents, type Floor, Ledger } from "./ledger.ts";
import type { SeededRandom } from "./random.ts";
import { WRITER_PROGRAM } from "./writer-program.ts";

export const MOUNT = "/v";
const FILE = `${MOUNT}/log`;
const PROGRAM = "/tmp/writer.py";
const PAUSE_MS = 20;
const RETRY_MS = 200;
/** A connection that has neither ended nor given a record by then hangs: what freezes or cuts a machine is over earlier, and noticed within 10 s. */
const STALL_MS = 90_000;

/** A client of one of the servers. */
export function sdkClient(fleet: Fleet, { process: { endpoint } }: ServerMachine): Client {
  return new Client({
    token: fleet.token,
    apiEndpoint: endpoint,
    sandboxEndpoint: endpoint,
    connectTimeoutMs: testTimeoutMs(60_000),
  });
}

/** What the file in a sandbox that has the volume at `MOUNT` holds. */
export async function checkFile(sandbox: Sandbox): Promise<FileContents> {
  await sandbox.fs.writeTextFile(PROGRAM, WRITER_PROGRAM);
  const child = await sandbox.spawn("python3", { args: [PROGRAM, FILE, "check"], stdout: "piped", stderr: "piped" });
  const { stdoutText, stderrText, status } = await child.output();
  if (!status.success) throw new Error(`cannot read the writer's file: ${stderrText}`);
  return JSON.parse(stdoutText ?? "") as FileContents;
}

/**
 * Keeps a volume written to: has a sandbox with it, and a program there that appends records and syncs each. When any of them ends, it connects again, or makes the next one, through any of the servers.
 */
export class VolumeWriter {
  readonly ledger = new Ledger();
  readonly slug: string;
  readonly region: string;
  readonly #fleet: Fleet;
  readonly #random: SeededRandom;
  readonly #violations: string[];
  #sandbox: Sandbox | null = null;
  #sandboxId: string | null = null;
  #lastError: unknown = null;
  /** How many sandboxes it has had. */
  sandboxes = 0;

  constructor(fleet: Fleet, slug: string, region: string, random: SeededRandom, violations: string[]) {
    this.#fleet = fleet;
    this.slug = slug;
    this.region = region;
    this.#random = random;
    this.#violations = violations;
  }

  /** Of the sandbox that it has, or had last. */
  get sandboxId(): string | null {
    return this.#sandboxId;
  }

  /** Why it did not write, when it was so last. */
  get lastError(): string {
    return String(this.#lastError);
  }

  /** Until it is told to stop. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        await this.#write(signal);
      } catch (error) {
        this.#lastError = error;
      }
      await delay(RETRY_MS, undefined, { signal }).catch(() => {});
    }
  }

  /** Compares the file, read in the sandbox that writes to it, with what was acknowledged before. */
  async check(): Promise<void> {
    const floor = this.ledger.floor();
    const sandbox = this.#sandbox;
    if (sandbox === null) throw new Error(`nothing writes to ${this.slug}: ${this.lastError}`);
    this.#compare(floor, await checkFile(sandbox), "while it is written to");
  }

  /** Ends its sandbox, so that the next one reads the volume from its image. */
  async endSandbox(): Promise<void> {
    const id = this.#sandboxId;
    if (id !== null) await this.#client().sandboxes.kill(id);
  }

  async #write(signal: AbortSignal): Promise<void> {
    await using sandbox = await this.#open();
    this.#sandbox = sandbox;
    try {
      await sandbox.fs.writeTextFile(PROGRAM, WRITER_PROGRAM);
      const floor = this.ledger.floor();
      const generation = this.ledger.nextGeneration();
      const child = await sandbox.spawn("python3", {
        args: [PROGRAM, FILE, String(generation), String(PAUSE_MS)],
        stdout: "piped",
        stderr: "piped",
      });
      const errors = new Response(child.stderr).text().catch(String);
      const isEnded = await this.#read(child.stdout as ReadableStream<Uint8Array>, floor, generation, signal);
      if (isEnded) this.#lastError = new Error(`the writer ended: ${await errors}`);
    } finally {
      this.#sandbox = null;
    }
  }

  /** Whether its output has ended; else it is told to stop, or hangs. */
  async #read(
    output: ReadableStream<Uint8Array>,
    floor: Floor,
    generation: number,
    signal: AbortSignal,
  ): Promise<boolean> {
    const reader = output
      .pipeThrough(new TextDecoderStream() as never)
      .getReader() as ReadableStreamDefaultReader<string>;
    let rest = "";
    let isFirst = true;
    for (;;) {
      const part = await beforeStall(reader.read(), signal);
      if (part === "stopped") return false;
      if (part === "stalled") {
        this.#violations.push(
          `hang: a connection to ${this.#sandboxId} neither ended nor gave anything for ${STALL_MS} ms`,
        );
        return false;
      }
      if (part.done) return true;
      const lines = `${rest}${part.value}`.split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) {
        if (isFirst) this.#compare(floor, JSON.parse(line) as FileContents, "as its next writer found it");
        else {
          const [from, sequence, at] = line.split(" ").map(Number);
          if (from !== generation || sequence === undefined || at === undefined)
            throw new Error(`the writer said: ${line}`);
          this.ledger.acknowledge(generation, sequence, at);
        }
        isFirst = false;
      }
    }
  }

  /** The one that it has, if that runs still; one that was made without its hearing of it; or a new one. */
  async #open(): Promise<Sandbox> {
    const client = this.#client();
    const labels = { writer: this.slug };
    const known = await client.sandboxes.list({ labels });
    const running = known.find(({ status }) => status === "running");
    if (running !== undefined) {
      this.#sandboxId = running.id;
      return client.sandboxes.connect(running.id);
    }
    const sandbox = await client.sandboxes.create({
      region: this.region,
      timeout: "30m",
      labels,
      volumes: { [MOUNT]: this.slug },
    });
    this.sandboxes += 1;
    this.#sandboxId = sandbox.id;
    return sandbox;
  }

  #client(): Client {
    return sdkClient(this.#fleet, this.#random.pick(this.#fleet.servers));
  }

  #compare(floor: Floor, contents: FileContents, when: string): void {
    for (const violation of Ledger.violations(floor, contents))
      this.#violations.push(`${this.slug}, ${when}: ${violation}`);
  }
}

/** `stopped`: the writer is told to stop. */
async function beforeStall<T>(work: Promise<T>, signal: AbortSignal): Promise<T | "stopped" | "stalled"> {
  const over = new AbortController();
  work.catch(() => {});
  try {
    return await Promise.race([
      work,
      delay(testTimeoutMs(STALL_MS), "stalled" as const, { signal: AbortSignal.any([over.signal, signal]) }).catch(
        () => "stopped" as const,
      ),
    ]);
  } finally {
    over.abort();
  }
}
