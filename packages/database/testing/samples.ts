import assert from "node:assert/strict";
import { setTimeout as delay } from "node:timers/promises";
import { newId } from "@caisson/model";
import { ownerOf } from "../src/records.ts";
import type { AuditEvent, DiskUsage, NewDisk, NewNode, NewSandbox, Owner, SandboxPlaces, Store } from "../src/store.ts";

/** The organization that samples belong to. */
export const SAMPLE_ORGANIZATION = "org_a";

/** What sample disks and sandboxes belong to: the first run of `sampleNode`. */
export const SAMPLE_OWNER = { nodeId: "nod_sample", generation: 1 };

let runs = 0;

/** A node with many places, at another start of its process each time. */
export function sampleNode(values: Partial<NewNode> = {}): NewNode {
  const capacity = { places: 1_000_000, memoryMib: null };
  runs += 1;
  const runId = `run_${runs}`;
  return { id: SAMPLE_OWNER.nodeId, regions: ["ord"], address: "sample", labels: {}, capacity, runId, ...values };
}

/** A run of a sample node whose lease is over. */
export async function beginLapsed(store: Store, values: Partial<NewNode>): Promise<Owner> {
  const node = await store.nodes.begin(sampleNode(values), 1);
  for (const untilMs = Date.now() + 30_000; (await store.nodes.get(node.id))?.isLive !== false; await delay(5))
    assert.ok(Date.now() < untilMs, "a lease of one millisecond does not run out");
  return ownerOf(node);
}

/** A disk as a store is asked to reserve it: an empty volume of 1 GB on the sample node, of nothing and without labels, if nothing else is said. */
export function sampleDisk(values: Pick<NewDisk, "organizationId" | "slug"> & Partial<NewDisk>): NewDisk {
  return {
    kind: "volume",
    owner: SAMPLE_OWNER,
    id: newId(values.kind === "snapshot" ? "snp" : "vol", "ord"),
    region: "ord",
    capacityBytes: 1e9,
    isBootable: false,
    consistency: null,
    parent: null,
    baseSnapshot: null,
    baseImageId: null,
    labels: {},
    everyMs: null,
    createdAtMs: 1000,
    ...values,
  };
}

/** A sandbox of the sample organization, with the memory that one has by default. */
export function sampleSandbox(values: Partial<NewSandbox> = {}): NewSandbox {
  return {
    id: newId("sbx", "ord"),
    organizationId: SAMPLE_ORGANIZATION,
    region: "ord",
    labels: {},
    memoryMib: 1280,
    createdAtMs: 1000,
    stopAtMs: null,
    ...values,
  };
}

/** Limits that nobody reaches, unless others are given. */
export function samplePlaces(values: Partial<SandboxPlaces> = {}): SandboxPlaces {
  return { perOrganization: 1000, kept: 0, keptEach: 1, ...values };
}

export function sampleUsage(values: Partial<DiskUsage> = {}): DiskUsage {
  return {
    allocatedBytes: 5,
    flattenedBytes: 7,
    exclusiveBytes: 3,
    inodes: 1024,
    usedInodes: 11,
    usageMeasuredAtMs: 1000,
    ...values,
  };
}

/** A line of the sample organization's trail. */
export function sampleEvent(objectId: string, verb = "test"): AuditEvent {
  return {
    organizationId: SAMPLE_ORGANIZATION,
    atMs: 1,
    actor: "tok_1",
    verb,
    objectId,
    outcome: "ok",
    detail: { verb },
  };
}
