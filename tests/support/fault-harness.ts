import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { mkdir, mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { TestDisk } from "@caisson/storage/testing";
import { Sandbox } from "@deno/sandbox";
import { TestClient } from "./client.ts";
import { eventually } from "./eventually.ts";
import { type FaultOperation, faultOperations } from "./fault-operations.ts";
import { FaultPlan, type FaultPoint } from "./fault-plan.ts";
import { TestServer } from "./server.ts";

type SandboxOptions = NonNullable<Parameters<typeof Sandbox.create>[0]>;

interface Parts {
  readonly directory: string;
  readonly plan: FaultPlan;
  readonly server: TestServer;
  readonly client: TestClient;
}

/** A server with a fault plan, a volume that no fault may touch, and what operations and their checks are written with. */
export class FaultHarness implements AsyncDisposable {
  readonly #witness = randomBytes(1 << 20);
  #parts: Parts | null = null;
  #open: Sandbox[] = [];
  #disk: TestDisk | null = null;

  async start(): Promise<void> {
    const directory = await mkdtemp(join(tmpdir(), "caisson-faults-"));
    const plan = new FaultPlan(directory);
    await plan.reset();
    const far = join(directory, "far");
    await mkdir(far);
    const settings = `[snapshot_store]\nurl = "file://${far}"\nreplication = "none"\nbackup_every = "off"\n`;
    const server = await TestServer.start({ env: plan.env, settings, hasPoolFile: true });
    this.#parts = { directory, plan, server, client: new TestClient(server) };
    this.useServer();
    await this.client.createVolume("witness");
    await this.inSandbox({ volumes: { "/w": "witness" } }, (sandbox) => sandbox.fs.writeFile("/w/data", this.#witness));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const { plan, server, directory } = this.#started();
    await plan.reset();
    await this.closeClients();
    await server[Symbol.asyncDispose]();
    await this.#disk?.dispose();
    await rm(directory, { recursive: true });
  }

  get plan(): FaultPlan {
    return this.#started().plan;
  }

  get server(): TestServer {
    return this.#started().server;
  }

  get client(): TestClient {
    return this.#started().client;
  }

  /** Points the official client to the server, whose port changes with each start. */
  useServer(): void {
    Object.assign(process.env, this.server.clientEnv());
  }

  /** Starts the server again with a further disk, which is larger; so much is kept free of each that the first one counts as full, and the further one does not. */
  async addDisk(): Promise<void> {
    const [pool] = await this.rest<{ total: number }[]>("GET", "/api/v1/pools");
    assert.ok(pool);
    this.#disk = await TestDisk.create("btrfs", 4096 * Math.ceil((pool.total * 1.5) / 4096));
    const headroom = Math.ceil(pool.total * 0.55);
    await this.#restart(`[pool]\nheadroom = ${headroom}\n[[pool.disks]]\ndirectory = "${this.#disk.mountPath}"\n`);
  }

  /** The opposite of `addDisk`, when nothing lies on the disk any more. */
  async removeDisk(): Promise<void> {
    await this.#restart("");
    await this.#disk?.dispose();
    this.#disk = null;
  }

  async #restart(settings: string): Promise<void> {
    await this.server.stop();
    await this.server.writeSettings(settings);
    await this.server.start();
    this.useServer();
  }

  rest<T = Record<string, unknown>>(method: string, path: string, json?: unknown): Promise<T> {
    return this.client.rest<T>(method, path, json);
  }

  async exists(kind: "volumes" | "snapshots", slug: string): Promise<boolean> {
    return (await this.server.request(`/api/v2/${kind}/${slug}`)).status === 200;
  }

  /** Brings a snapshot into the snapshot store; rejects when the try fails. */
  async replicate(slug: string): Promise<void> {
    await this.rest("POST", `/api/v2/snapshots/${slug}/replicate`, {});
    const state = await eventually(
      `an end of the upload of ${slug}`,
      async () => {
        const { replication } = await this.client.extended<{ replication: { state: string } }>(
          "GET",
          `/api/v2/snapshots/${slug}`,
        );
        return replication.state === "uploading" ? null : replication.state;
      },
      60_000,
    );
    assert.equal(state, "replicated");
  }

  /** Whether the store shows the snapshot. */
  async isInStore(snapshotId: string): Promise<boolean> {
    const files = await readdir(join(this.#started().directory, "far"), { recursive: true });
    return files.some((path) => path.startsWith("manifests/") && path.endsWith(snapshotId));
  }

  /** A sandbox that stays until `closeClients`. */
  async openSandbox(options: SandboxOptions): Promise<Sandbox> {
    const sandbox = await Sandbox.create(options);
    this.#open.push(sandbox);
    return sandbox;
  }

  get lastSandbox(): Sandbox | undefined {
    return this.#open.at(-1);
  }

  async closeClients(): Promise<void> {
    for (const sandbox of this.#open.splice(0)) await sandbox.close().catch(() => {});
  }

  async inSandbox<T>(options: SandboxOptions, work: (sandbox: Sandbox) => Promise<T>): Promise<T> {
    const sandbox = await this.openSandbox(options);
    const result = await work(sandbox);
    await sandbox.kill();
    return result;
  }

  /** Writes the text into the volume's file. */
  fill(volume: string, text: string): Promise<void> {
    return this.inSandbox({ volumes: { "/v": volume } }, (sandbox) => sandbox.fs.writeTextFile("/v/file", text));
  }

  /** The volume mounts, holds what it should, and takes a write. */
  assertUsable(volume: string, expected?: string): Promise<void> {
    return this.inSandbox({ volumes: { "/v": volume } }, async (sandbox) => {
      if (expected !== undefined) assert.equal(await sandbox.fs.readTextFile("/v/file"), expected);
      await sandbox.fs.writeTextFile("/v/file", "written after the fault");
      assert.notEqual((await sandbox.sh`df --output=size /v | tail -1`.text()).trim(), "0");
    });
  }

  /** Runs the operation with nothing planned, checks it as after a fault, and returns the points that it passes. */
  async trace(operation: FaultOperation, id: string): Promise<readonly FaultPoint[]> {
    await operation.prepare(id);
    await this.plan.reset();
    await operation.run(id);
    const points = await this.plan.passed();
    assert.ok(points.length > 0, "the operation passes no fault point");
    this.useServer();
    await operation.verify(id, true);
    return points;
  }

  /** What follows an answer in the background has come to this point since the plan was last written. */
  async untilPassed(tag: string): Promise<void> {
    await eventually(
      `that ${tag} is passed`,
      async () => ((await this.plan.passed()).some((point) => point.tag === tag) ? true : null),
      30_000,
    );
  }

  /** What was on a volume before the fault, and had nothing to do with it, is there. */
  async assertWitness(): Promise<void> {
    const found = await this.inSandbox({ volumes: { "/w": "witness" } }, (sandbox) => sandbox.fs.readFile("/w/data"));
    const hash = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");
    assert.equal(hash(found), hash(this.#witness));
  }

  /** The trail tells of each acknowledged change once, and of nothing that did not happen. */
  async assertRecorded(objectId: string, verb: string): Promise<void> {
    const events = await this.rest<{ verb: string; outcome: string }[]>("GET", `/api/v1/events?object=${objectId}`);
    assert.equal(events.filter((event) => event.verb === verb && event.outcome === "ok").length, 1, verb);
  }

  /** Nothing of a sandbox is left, once the ends that are under way are over. */
  async assertNoSandboxes(): Promise<void> {
    await eventually(
      "the end of every sandbox",
      async () => {
        const all = await this.rest<{ status: string }[]>("GET", "/api/v3/sandboxes");
        return all.every(({ status }) => status === "stopped") ? true : null;
      },
      30_000,
    );
  }

  /** After a start: every image belongs to a row, and every row has its image. */
  assertPoolMatches(): void {
    assert.doesNotMatch(this.server.logText(), /the database does not know|missing from the pool/);
  }

  #started(): Parts {
    assert.ok(this.#parts !== null, "the harness is not started");
    return this.#parts;
  }
}

/** All operations, or as many as CAISSON_FAULTS_OPERATIONS says of those that change with the commit. */
export function sampledOperations(harness: FaultHarness, isFull: boolean): readonly FaultOperation[] {
  const all = faultOperations(harness);
  const count = process.env.CAISSON_FAULTS_OPERATIONS;
  return isFull || count === undefined ? all : sample(all, Number(count), "operations");
}

/**
 * Some of the items, chosen by the commit: a run on one commit tries the same ones again, so that a failure can be repeated, and the next commit
 * tries others. CAISSON_FAULTS_SEED chooses differently.
 */
export function sample<T>(items: readonly T[], count: number, purpose: string): readonly T[] {
  // What runs side by side is passed in an order that changes.
  const rest = items.map((item) => ({ item, key: JSON.stringify(item) })).sort((a, b) => (a.key < b.key ? -1 : 1));
  const chosen: T[] = [];
  while (chosen.length < count && rest.length > 0) {
    const digest = createHash("sha256").update(`${faultSeed} ${purpose} ${chosen.length}`).digest();
    chosen.push(...rest.splice(digest.readUInt32BE() % rest.length, 1).map(({ item }) => item));
  }
  return chosen;
}

const faultSeed = process.env.CAISSON_FAULTS_SEED ?? commit();

function commit(): string {
  return execFileSync("git", ["rev-parse", "HEAD"], { cwd: import.meta.dirname, encoding: "utf8" }).trim();
}
