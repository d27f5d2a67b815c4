import assert from "node:assert/strict";
import { test } from "node:test";
import type { AppContext } from "../context.ts";
import { reportUnknownPolicies } from "./replication-policy.ts";

test("a region in the settings that no node has is told", async () => {
  const told: unknown[] = [];
  const report = (regions: readonly string[]) =>
    reportUnknownPolicies({
      config: { snapshotStore: { policies: new Map(regions.map((region) => [region, "none"])) } },
      store: { nodes: { list: async () => [{ regions: ["ord"] }, { regions: ["ams"] }] } },
      logger: { warn: (details: object) => told.push(details) },
    } as unknown as AppContext);
  await report(["ord", "ams"]);
  assert.deepEqual(told, []);
  await report(["ord", "amz"]);
  assert.deepEqual(told, [{ regions: ["amz"] }]);
});
