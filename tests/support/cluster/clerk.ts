import { setTimeout as delay } from "node:timers/promises";
import { testTimeoutMs } from "@caisson/linux/testing";
import type { TestClient } from "../client.ts";
import type { Fleet } from "./fleet.ts";
import { type Floor, Ledger } from "./ledger.ts";
import type { SeededRandom } from "./random.ts";
import { checkFile, MOUNT, sdkClient, type VolumeWriter } from "./volume-writer.ts";

const PAUSE_MS = 300;
/** A server that stands by holds a request for half a minute at most, and a frozen one is replaced after twenty seconds; the rest is for a machine that is busy. */
const REQUEST_MS = 150_000;
const KEPT = 2;

interface Kept {
  /** What has to be in it: what was acknowledged before it was asked for. Null: it is a volume. */
  readonly floor: Floor | null;
  readonly region: string;
}

/** Of the volumes that are written to: two hundred rounds write for hours. */
export const LOG_CAPACITY = "1GB";

type Kind = "volumes" | "snapshots";

/**
 * Asks for volumes, snapshots and sandboxes, one after another, through any of the servers, and remembers what was acknowledged. What is answered with a failure, or not at all, may have happened or not; it is looked up and
 * may not change any more after that.
 */
export class Clerk {
  readonly #fleet: Fleet;
  readonly #writers: readonly VolumeWriter[];
  readonly #random: SeededRandom;
  readonly #violations: string[];
  readonly #kept: Record<Kind, Map<string, Kept>> = { volumes: new Map(), snapshots: new Map() };
  readonly #gone: Record<Kind, string[]> = { volumes: [], snapshots: [] };
  readonly #unknown: Record<Kind, Map<string, Kept>> = { volumes: new Map(), snapshots: new Map() };
  #count = 0;
  /** Requests that were acknowledged, and those whose outcome was not told. */
  acknowledged = 0;
  unanswered = 0;

  constructor(fleet: Fleet, writers: readonly VolumeWriter[], random: SeededRandom, violations: string[]) {
    this.#fleet = fleet;
    this.#writers = writers;
    this.#random = random;
    this.#violations = violations;
  }

  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await this.#work();
      await delay(PAUSE_MS, undefined, { signal }).catch(() => {});
    }
  }

  /** Everything that was acknowledged is there, and what was deleted is not. Nothing else may be asked for meanwhile. */
  async check(): Promise<void> {
    const client = this.#client();
    for (const kind of ["volumes", "snapshots"] as const) {
      const isThere = async (slug: string): Promise<boolean> => {
        const { status } = await client.server.request(`/api/v2/${kind}/${slug}`);
        if (status !== 200 && status !== 404) throw new Error(`GET ${kind}/${slug}: ${status}`);
        return status === 200;
      };
      for (const slug of this.#kept[kind].keys())
        if (!(await isThere(slug))) this.#violations.push(`lost: ${kind} ${slug} was acknowledged and is not there`);
      for (const slug of this.#gone[kind].splice(0))
        if (await isThere(slug))
          this.#violations.push(`undone: the deletion of ${kind} ${slug} was acknowledged, and it is there`);
      for (const [slug, kept] of this.#unknown[kind]) {
        this.#unknown[kind].delete(slug);
        if (await isThere(slug)) this.#kept[kind].set(slug, kept);
        else this.#gone[kind].push(slug);
      }
    }
    await this.#checkSnapshot();
  }

  /** A volume that is made of the last snapshot holds what was acknowledged before that was asked for. */
  async #checkSnapshot(): Promise<void> {
    const [slug, kept] = [...this.#kept.snapshots].at(-1) ?? [];
    if (slug === undefined || kept?.floor === null || kept === undefined) return;
    const server = this.#random.pick(this.#fleet.servers);
    const client = this.#fleet.clientOf(server);
    const copy = `copy-${slug}`;
    await client.createVolume(copy, { region: kept.region, from: slug, capacity: LOG_CAPACITY });
    const sandbox = await sdkClient(this.#fleet, server).sandboxes.create({
      region: kept.region,
      volumes: { [MOUNT]: copy },
    });
    for (const violation of Ledger.violations(kept.floor, await checkFile(sandbox)))
      this.#violations.push(`snapshot ${slug}: ${violation}`);
    await sandbox.kill();
    await client.rest("DELETE", `/api/v2/volumes/${copy}?now=true`);
  }

  async #work(): Promise<void> {
    this.#count += 1;
    const name = `${this.#count}`;
    const kinds = ["volume", "snapshot", "sandbox"] as const;
    const kind = this.#random.pick(kinds);
    if (kind === "sandbox") await this.#useSandbox();
    else if (kind === "volume") {
      const region = this.#random.pick(this.#writers).region;
      await this.#create("volumes", `volume-${name}`, { floor: null, region }, "/api/v2/volumes", {
        slug: `volume-${name}`,
        region,
        capacity: "300MB",
      });
    } else {
      const { ledger, region, slug } = this.#random.pick(this.#writers);
      const floor = ledger.floor();
      await this.#create("snapshots", `snapshot-${name}`, { floor, region }, `/api/v2/volumes/${slug}/snapshot`, {
        slug: `snapshot-${name}`,
      });
    }
  }

  async #create(kind: Kind, slug: string, kept: Kept, path: string, json: object): Promise<void> {
    const outcome = await this.#ask("POST", path, json);
    if (outcome === "done") this.#kept[kind].set(slug, kept);
    if (outcome === "unknown") this.#unknown[kind].set(slug, kept);
    const [oldest] = this.#kept[kind].keys();
    if (oldest === undefined || this.#kept[kind].size <= KEPT) return;
    const known = this.#kept[kind].get(oldest) as Kept;
    this.#kept[kind].delete(oldest);
    const deletion = await this.#ask("DELETE", `/api/v2/${kind}/${oldest}?now=true`);
    if (deletion === "done") this.#gone[kind].push(oldest);
    else if (deletion === "refused") this.#kept[kind].set(oldest, known);
    else this.#unknown[kind].set(oldest, known);
  }

  async #ask(method: string, path: string, json?: object): Promise<"done" | "refused" | "unknown"> {
    try {
      const signal = AbortSignal.timeout(testTimeoutMs(REQUEST_MS));
      const response = await this.#client().server.request(path, { method, signal, ...(json && { json }) });
      await response.arrayBuffer();
      if (response.ok) this.acknowledged += 1;
      if (response.ok) return "done";
      if (response.status < 500) return "refused";
    } catch (error) {
      if (error instanceof DOMException && error.name === "TimeoutError")
        this.#violations.push(`hang: ${method} ${path} was not answered within ${REQUEST_MS} ms`);
    }
    this.unanswered += 1;
    return "unknown";
  }

  async #useSandbox(): Promise<void> {
    const server = this.#random.pick(this.#fleet.servers);
    const region = this.#random.pick(this.#writers).region;
    try {
      const sandbox = await sdkClient(this.#fleet, server).sandboxes.create({ region });
      await sandbox.sh`true`;
      await sandbox.kill();
      this.acknowledged += 1;
    } catch {
      // It ends with its connection; the audit sees that nothing of it stays.
      this.unanswered += 1;
    }
  }

  #client(): TestClient {
    return this.#fleet.clientOf(this.#random.pick(this.#fleet.servers));
  }
}
