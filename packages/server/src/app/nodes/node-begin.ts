import type { NewNode, NodeRecord, SharedPools, Store } from "@caisson/database";
import { step } from "@caisson/linux";
import { requireLabels } from "@caisson/model";
import type { NodeDescription } from "@caisson/node";
import type { Config } from "../../config.ts";
import { sandboxPlaces } from "../sandboxes/sandbox-places.ts";

const MIB = 2 ** 20;

/** A node, and what it says of itself now. */
export interface DescribedNode extends Pick<NewNode, "id" | "address"> {
  readonly description: NodeDescription;
}

/**
 * Begins a run of a node: the next generation of its row, unless that run has begun already. What earlier runs left is settled afterwards, by the recovery; a crash
 * in between leaves it to the next run of a node in this process, and to the next connection to one on another machine.
 */
export function beginNode(
  { config, store }: { readonly config: Config; readonly store: Store },
  { id, address, description }: DescribedNode,
  leaseMs: number,
): Promise<NodeRecord> {
  const { maxMemoryBytes } = config.sandboxes;
  const node: NewNode = {
    id,
    regions: description.regions.map(({ name }) => name),
    address,
    // Those of another machine may be in foreign hands.
    labels: requireLabels(description.labels),
    runId: description.runId,
    sharedPools: sharedPools(description.regions),
    capacity: {
      places: sandboxPlaces(config.sandboxes, description.placeCount).total,
      memoryMib: maxMemoryBytes === null ? null : Math.floor(maxMemoryBytes / MIB),
    },
  };
  return step("node-begin.commit", () => store.nodes.begin(node, leaseMs));
}

/** What the regions share with other nodes. */
export function sharedPools(regions: NodeDescription["regions"]): SharedPools {
  return Object.fromEntries(regions.flatMap(({ name, shared = null }) => (shared === null ? [] : [[name, shared]])));
}
