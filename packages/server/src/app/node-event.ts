import type { NodeEvent } from "@caisson/node";
import type { AppContext } from "./context.ts";
import { recordPoolEvent } from "./pool/pool-event.ts";
import { recordVolumeDamage } from "./volumes/volume-damage.ts";

/** Takes what a node tells of: into the rows, the trail and the figures. It can only speak of what it has. */
export async function takeNodeEvent(
  app: Pick<AppContext, "store" | "metrics" | "live">,
  nodeId: string,
  event: NodeEvent,
): Promise<void> {
  switch (event.kind) {
    case "volume-damaged":
      return recordVolumeDamage(app, nodeId, event.volumeId, event.message);
    case "pool-full": {
      const { region, volumeIds } = event;
      app.metrics.poolHolds.inc({ node: nodeId, region });
      return recordPoolEvent(app.store, region, "pool-hold", "STORAGE_FULL", { nodeId, volumeIds });
    }
    case "sandbox-exited":
      return app.live.markExited(nodeId, event.sandboxId, event.cause);
    case "background-error":
      return app.metrics.countBackgroundError(event.work);
    default:
      throw new Error(`There is no event ${JSON.stringify(event satisfies never)}`);
  }
}
