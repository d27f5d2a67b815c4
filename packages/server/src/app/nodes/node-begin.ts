import { randomUUID } from "node:crypto";
import { hostname } from "node:os";
import type { NodeRecord, Store } from "@caisson/database";
import { step } from "@caisson/linux";
import type { Config } from "../../config.ts";
import { sandboxPlaces } from "../sandboxes/sandbox-places.ts";

const MIB = 2 ** 20;

/**
 * Begins a run of the node that this server is: the next generation of its row. What earlier runs left is settled afterwards, by the recovery; a crash
 * in between leaves it to the next run. `hostPlaces`: sandboxes that the host has room for.
 */
export function beginNode(
  { config, store }: { readonly config: Config; readonly store: Store },
  { id, hostPlaces, leaseMs }: { readonly id: string; readonly hostPlaces: number; readonly leaseMs: number },
): Promise<NodeRecord> {
  const { maxMemoryBytes } = config.sandboxes;
  const node = {
    id,
    regions: config.regions,
    address: config.node.address ?? hostname(),
    labels: config.node.labels,
    // The node is this process.
    runId: randomUUID(),
    capacity: {
      places: sandboxPlaces(config.sandboxes, hostPlaces).total,
      memoryMib: maxMemoryBytes === null ? null : Math.floor(maxMemoryBytes / MIB),
    },
  };
  return step("node-begin.commit", () => store.nodes.begin(node, leaseMs));
}
