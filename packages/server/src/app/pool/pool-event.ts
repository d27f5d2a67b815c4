import type { Store } from "@caisson/database";
import { ADMIN_ORGANIZATION } from "../access/administrator.ts";

/** Writes a line about a region's pool into the trail of the organization that administers the server. */
export async function recordPoolEvent(
  store: Store,
  region: string,
  verb: string,
  outcome: string,
  detail: Readonly<Record<string, unknown>>,
): Promise<void> {
  const administrators = await store.organizations.get(ADMIN_ORGANIZATION);
  if (administrators === null) return;
  await store.events.record({
    organizationId: administrators.id,
    atMs: Date.now(),
    actor: "server",
    verb,
    objectId: region,
    outcome,
    detail,
  });
}
