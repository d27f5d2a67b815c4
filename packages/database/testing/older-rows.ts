import assert from "node:assert/strict";
import type { Store } from "../src/store.ts";
import { sampleEvent, sampleNode } from "./samples.ts";

/** Rows as a program from before nodes has left them, for both databases: a volume, a creation that was cut off, and a sandbox that was running. */
export const OLDER_ROWS = `
  INSERT INTO organizations VALUES ('org_a', 'a', 0);
  INSERT INTO disks (kind, id, organization_id, slug, region, state, capacity_bytes, is_bootable, labels, LABEL_WORDS created_at_ms) VALUES
    ('volume', 'vol_1', 'org_a', 'cache', 'ord', 'ready', 1, FALSE, '{}', NO_WORDS 0),
    ('volume', 'vol_2', 'org_a', 'cut-off', 'ord', 'creating', 1, FALSE, '{}', NO_WORDS 0);
  INSERT INTO sandboxes (id, organization_id, region, status, labels, LABEL_WORDS memory_mib, created_at_ms) VALUES
    ('sbx_1', 'org_a', 'ord', 'running', '{}', NO_WORDS 1280, 0), ('sbx_2', 'org_a', 'ord', 'stopped', '{}', NO_WORDS 1280, 0);
  INSERT INTO holds (volume_id, sandbox_id, is_read_only) VALUES ('vol_1', 'sbx_1', FALSE);`;

/** What `OLDER_ROWS` has belongs to one node, whose first run settles it. */
export async function assertOlderRowsAreSettled(store: Store): Promise<void> {
  const [node, ...others] = await store.nodes.list();
  assert.ok(node !== undefined && others.length === 0);
  assert.deepEqual([node.generation, node.isLive, node.reserved], [0, false, { places: 1, memoryMib: 1280 }]);
  assert.deepEqual((await store.disks.get("vol_1"))?.owner, { nodeId: node.id, generation: 0 });
  const { generation } = await store.nodes.begin(sampleNode({ id: node.id }), 60_000);
  const owner = { nodeId: node.id, generation };
  const ids = (found: readonly { readonly id: string }[]): readonly string[] => found.map(({ id }) => id);
  assert.deepEqual(ids(await store.disks.listUnsettled(owner)), ["vol_2"]);
  assert.deepEqual(ids(await store.sandboxes.listLeft(owner)), ["sbx_1"]);
  assert.deepEqual(ids(await store.disks.listIds(node.id)).toSorted(), ["vol_1", "vol_2"]);
  await store.sandboxes.finish("sbx_1", "server-restart", 1, sampleEvent("sbx_1"));
  assert.deepEqual((await store.nodes.get(node.id))?.reserved, { places: 0, memoryMib: 0 });
  await store.disks.beginGrow(owner, "vol_1", 2);
  assert.deepEqual((await store.disks.get("vol_1"))?.owner, owner);
}
