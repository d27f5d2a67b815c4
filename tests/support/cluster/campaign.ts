import { randomInt } from "node:crypto";
import { eventually } from "../eventually.ts";
import { auditFleet } from "./audit.ts";
import { Clerk, LOG_CAPACITY } from "./clerk.ts";
import { FAULTS, type Fault } from "./faults.ts";
import { Fleet } from "./fleet.ts";
import { SeededRandom } from "./random.ts";
import { VolumeWriter } from "./volume-writer.ts";

const REGIONS = ["ord", "ams", "fra"];
const NODE_SETTINGS = '[pool]\nsize = "2GiB"\n[sandboxes]\nwarm_sandboxes = 0\nprepared_scratch_disks = 1\n';
/** A node that was frozen may be noticed late, and what it has be settled after that. */
const RECOVERY_MS = 180_000;

export interface CampaignOptions {
  readonly rounds: number;
  /** Default: one that is drawn, and printed. */
  readonly seed?: number;
  /** Default: all of `FAULTS`. */
  readonly faults?: readonly Fault[];
  readonly print: (line: string) => void;
}

interface RoundResult {
  readonly fault: string;
  readonly recoveryMs: number;
}

/**
 * Rounds of faults against a fleet under load. Each fault comes once before any comes again, in an order that the seed draws. After each round, when all that stopped goes on, the load is checked against what it was told, and
 * the hosts against the rows. Rejects with the seed and the round when anything was lost, written by two, left behind or hung.
 */
export async function runCampaign({
  rounds,
  seed = randomInt(2 ** 31),
  faults = FAULTS,
  print,
}: CampaignOptions): Promise<void> {
  print(`seed ${seed}: run it again with CLUSTER_SEED=${seed}`);
  const random = new SeededRandom(seed);
  const violations: string[] = [];
  const results: RoundResult[] = [];
  let round = 0;
  let fault = "none, at the beginning";
  await using undo = new AsyncDisposableStack();
  const where = () => `seed ${seed}, round ${round} of ${rounds} (${fault})`;
  const fleet = undo.use(await Fleet.start({ regions: REGIONS, nodeSettings: NODE_SETTINGS }));
  const load = await Load.start(fleet, random, violations);
  undo.use(load);
  const order: Fault[] = [];
  try {
    await load.untilWritten();
    for (round = 1; round <= rounds; round += 1) {
      if (order.length === 0) order.push(...random.shuffle(faults));
      const next = order.shift() as Fault;
      fault = next.name;
      // Whatever ends the run, its last line says where it was.
      print(where());
      await next.run(fleet, random);
      const startedMs = performance.now();
      await load.untilWritten();
      const recoveryMs = Math.round(performance.now() - startedMs);
      await fleet.untilReady();
      // Some rounds also end a writer's sandbox, so that the volume is read anew from its image.
      if (random.next() < 0.5) await random.pick(load.writers).endSandbox();
      await load.atRest(async () => {
        violations.push(...(await auditFleet(fleet)));
        await load.check();
      });
      results.push({ fault, recoveryMs });
      print(`  all wrote again after ${recoveryMs} ms`);
      if (violations.length > 0) throw new Error(violations.join("\n"));
    }
    fault = "none, at the end";
    await load.checkAnew();
    if (violations.length > 0) throw new Error(violations.join("\n"));
  } catch (error) {
    const logs = [...fleet.servers, ...fleet.nodes].map(
      ({ name, process }) => `--- ${name}\n${tail(process.logText())}`,
    );
    print([`failed: ${where()}`, ...violations, ...logs].join("\n"));
    throw new Error(`${where()}: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
  } finally {
    printTable(results, load, violations.length, print);
  }
}

/** The writers, one on each node, and the clerk. */
class Load implements AsyncDisposable {
  readonly writers: readonly VolumeWriter[];
  readonly clerk: Clerk;
  readonly #stop = new AbortController();
  readonly #writing: Promise<unknown>;
  #pause = new AbortController();
  #clerking: Promise<void>;

  private constructor(writers: readonly VolumeWriter[], clerk: Clerk) {
    this.writers = writers;
    this.clerk = clerk;
    this.#writing = Promise.all(writers.map((writer) => writer.run(this.#stop.signal)));
    this.#clerking = clerk.run(this.#pause.signal);
  }

  static async start(fleet: Fleet, random: SeededRandom, violations: string[]): Promise<Load> {
    const writers: VolumeWriter[] = [];
    for (const { region } of fleet.nodes) {
      const [server] = fleet.servers;
      if (server === undefined) throw new Error("There is no server");
      await fleet.clientOf(server).createVolume(`log-${region}`, { region, capacity: LOG_CAPACITY });
      // Each has draws of its own: which of them draws first is chance.
      const own = new SeededRandom(random.between(0, 2 ** 31));
      writers.push(new VolumeWriter(fleet, `log-${region}`, region, own, violations));
    }
    const clerk = new Clerk(fleet, writers, new SeededRandom(random.between(0, 2 ** 31)), violations);
    return new Load(writers, clerk);
  }

  /** Until each writer was told of a record that it has not been told of yet. */
  async untilWritten(): Promise<void> {
    await Promise.all(
      this.writers.map(async (writer) => {
        const count = writer.ledger.count;
        await untilRecord(writer, () => writer.ledger.count > count);
      }),
    );
  }

  /** While the clerk asks for nothing, and what it asked for has been answered. */
  async atRest(work: () => Promise<void>): Promise<void> {
    this.#pause.abort();
    await this.#clerking;
    await work();
    this.#pause = new AbortController();
    this.#clerking = this.clerk.run(this.#pause.signal);
  }

  async check(): Promise<void> {
    await this.untilWritten();
    for (const writer of this.writers) await writer.check();
    await this.clerk.check();
  }

  /** The next writer of each volume finds in it all that was acknowledged. */
  async checkAnew(): Promise<void> {
    for (const writer of this.writers) {
      // What was told before by the one that ends may still come.
      const { generation } = writer.ledger;
      await writer.endSandbox();
      await untilRecord(writer, () => writer.ledger.acknowledgedGeneration > generation);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    this.#pause.abort();
    await Promise.all([this.#writing, this.#clerking]);
  }
}

async function untilRecord(writer: VolumeWriter, isThere: () => boolean): Promise<void> {
  try {
    await eventually(`a record of ${writer.slug}`, () => isThere() || null, RECOVERY_MS);
  } catch (error) {
    throw new Error(`hang: ${writer.slug} is not written to any more: ${writer.lastError}`, { cause: error });
  }
}

function tail(log: string): string {
  return log.split("\n").slice(-40).join("\n");
}

function printTable(
  results: readonly RoundResult[],
  { writers, clerk }: Load,
  violations: number,
  print: (line: string) => void,
): void {
  print("| Fault | Rounds | All wrote again after, median and longest |\n| --- | --- | --- |");
  for (const [fault, all] of Object.entries(Object.groupBy(results, ({ fault }) => fault))) {
    const times = (all ?? []).map(({ recoveryMs }) => recoveryMs / 1000).sort((a, b) => a - b);
    const median = times[Math.floor(times.length / 2)] ?? 0;
    print(`| ${fault} | ${times.length} | ${median.toFixed(1)} s, ${(times.at(-1) ?? 0).toFixed(1)} s |`);
  }
  const records = writers.reduce((sum, { ledger }) => sum + ledger.count, 0);
  const sandboxes = writers.reduce((sum, writer) => sum + writer.sandboxes, 0);
  print(
    `${results.length} rounds: ${records} records acknowledged in ${sandboxes} sandboxes, ${clerk.acknowledged} requests acknowledged, ${clerk.unanswered} not; ${violations} violations`,
  );
}
