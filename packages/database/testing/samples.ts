import { newId } from "@caisson/model";
import type { NewDisk, NewNode } from "../src/store.ts";

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
    createdAtMs: 1000,
    ...values,
  };
}
