import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach } from "node:test";
import { type Disk, type NewDisk, type Owner, openSqliteStore, type SharedPool, type Store } from "@caisson/database";
import { beginLapsed, sampleDisk, sampleEvent, sampleNode, sampleUsage } from "@caisson/database/testing";
import { CaissonError, newId } from "@caisson/model";
import type { Node } from "@caisson/node";
import { decodeSandboxConfig } from "@caisson/protocol";
import { ADMIN_ORGANIZATION } from "../src/app/access/administrator.ts";
import type { Actor } from "../src/app/context.ts";
import { takeOverIfLost } from "../src/app/disks/disk-take-over.ts";
import { connectedNode } from "../src/app/nodes/node-directory.ts";
import { DEFAULT_BASE_IMAGE } from "../src/app/region.ts";
import { planSandbox } from "../src/app/sandboxes/sandbox-plan.ts";
import { Control } from "./control.ts";

export const LEASE_MS = 60_000;
export const [LOST, HEIR] = ["nod_lost", "nod_heir"];
export const poolOf = (instance: string, identity = "fsid/pool"): SharedPool => ({ identity, instance });
export const unavailable = (message: RegExp) => ({ code: "NODE_UNAVAILABLE", message });

/** What a test of a lost node begins with, new for each test. */
export interface LostNodeWorld {
  store: Store;
  control: Control;
  actor: Actor;
  /** The run of `LOST` that is over. */
  lost: Owner;
  /** What was asked of nodes, in order. */
  calls: string[];
}

/** Registers the hooks of the suite that calls it. The rows are real, and the nodes write down what is asked of them. */
export function lostNodeWorld() {
  const world = {} as LostNodeWorld;
  let directory: string;
  /** Calls that fail, once each. */
  const failures = new Map<string, CaissonError>();
  const imageBytes = new Map<string, number>();
  /** Nodes that have not opened the pool that they have said, and those to which it does not answer. */
  const closed = new Set<string>();
  const unanswered = new Set<string>();
  /** Nodes that were asked what they have, in order. */
  const described: string[] = [];

  const asked = async (nodeId: string, call: string, id: string): Promise<void> => {
    world.calls.push(`${nodeId} ${call} ${id}`);
    const failure = failures.get(call);
    failures.delete(call);
    if (failure !== undefined) throw failure;
  };
  const connect = async (id: string, shared: SharedPool | null): Promise<Owner> => {
    const sharedPools = shared === null ? {} : { ord: shared };
    const row = await world.store.nodes.begin(sampleNode({ id, address: `${id}:8485`, sharedPools }), LEASE_MS);
    const owner = { nodeId: id, generation: row.generation };
    const baseImages = [{ name: DEFAULT_BASE_IMAGE, imageId: "base", sizeBytes: 1 }];
    const description = { runId: row.runId, labels: {}, placeCount: 1, placeBound: null, retriedWorkCount: 0 };
    const regions = [{ name: "ord", baseImages, hasReplicated: shared !== null, shared }];
    const node: Partial<Node> = {
      async describe() {
        described.push(id);
        return {
          ...description,
          regions: regions.map((region) => (closed.has(id) ? { ...region, shared: null } : region)),
        };
      },
      fence: (_region, instance) => asked(id, "fence", instance),
      recoverDisk: (disk, living) =>
        asked(id, "recoverDisk", [disk.id, ...(living.length > 0 ? ["not", ...living.toSorted()] : [])].join(" ")),
      growDisk: (disk) => asked(id, "growDisk", disk.id),
      createDisk: (disk) => asked(id, "createDisk", disk.id),
      measureDisk: async () => null,
      placesOf: async (_region, ids) => ids.map(() => ({ directory: id, problem: null })),
      async getDisk(disk) {
        if (unanswered.has(id)) throw new CaissonError("DISK_UNAVAILABLE", "the cluster does not answer");
        return { sizeBytes: imageBytes.get(disk.id) ?? 1e9 };
      },
      async deleteDisk(disk) {
        await asked(id, "deleteDisk", disk.id);
        return "deleted";
      },
    };
    world.control.app.nodes.add(connectedNode(owner, node as Node, { ...description, regions }));
    return owner;
  };
  const make = async (
    slug: string,
    values: Partial<NewDisk> = {},
    diskClass: "replicated" | "local" = "replicated",
  ) => {
    const id = newId(values.kind === "snapshot" ? "snp" : "vol", "ord", diskClass);
    await world.store.disks.reserve(sampleDisk({ organizationId: "org_a", slug, owner: world.lost, id, ...values }));
    return world.store.disks.commit(id, { ...sampleUsage(), consistency: null }, sampleEvent(id, "create"));
  };
  const rowOf = async ({ id }: Pick<Disk, "id">): Promise<Disk> => (await world.store.disks.get(id)) ?? assert.fail(id);
  const takeOver = (disk: Disk) => takeOverIfLost(world.control.app, disk);
  const plan = (...slugs: readonly string[]) => planOn(DEFAULT_BASE_IMAGE, ...slugs);
  const planOn = (root: string, ...slugs: readonly string[]) => {
    const volumes = Object.fromEntries(slugs.map((slug, index) => [`/v${index}`, slug]));
    const config = Buffer.from(JSON.stringify({ root: { volume: root }, volumes, timeout: "600s" })).toString("base64");
    return planSandbox(
      world.control.app,
      world.actor,
      decodeSandboxConfig(config, Date.now()),
      null,
      new AbortController().signal,
    );
  };
  /** As a last try to connect that failed, and what the next one finds. */
  const foundAway = (id: string, isThere = false) => {
    const triedAddress = { host: id, port: 8485 };
    world.control.app.nodes.expect(id, { problem: "it is down", triedAddress, isThere: async () => isThere });
  };

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), "caisson-take-over-"));
    world.store = openSqliteStore(join(directory, "caisson.db"));
    const organization = { id: "org_a", slug: ADMIN_ORGANIZATION, createdAtMs: 0 };
    await world.store.organizations.create(organization, sampleEvent("org_a"));
    world.actor = { organization, token: { id: "tok_a", organizationId: "org_a", name: "a", createdAtMs: 0 } };
    world.control = new Control(directory, world.store, new Map());
    world.calls = [];
    failures.clear();
    imageBytes.clear();
    closed.clear();
    unanswered.clear();
    world.lost = await beginLapsed(world.store, {
      id: LOST,
      address: `${LOST}:8485`,
      sharedPools: { ord: poolOf("lost.1") },
    });
  });
  afterEach(async () => {
    await world.control[Symbol.asyncDispose]();
    await world.store.close();
    await rm(directory, { recursive: true });
  });

  return Object.assign(world, {
    ...{ connect, make, rowOf, takeOver, plan, planOn, foundAway },
    ...{ failures, imageBytes, closed, unanswered, described },
  });
}
