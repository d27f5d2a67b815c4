import { newId } from "@caisson/model";
import type { NewDisk } from "../src/store.ts";

/** A disk as a store is asked to reserve it: an empty volume of 1 GB, of nothing and without labels, if nothing else is said. */
export function sampleDisk(values: Pick<NewDisk, "organizationId" | "slug"> & Partial<NewDisk>): NewDisk {
  return {
    kind: "volume",
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
