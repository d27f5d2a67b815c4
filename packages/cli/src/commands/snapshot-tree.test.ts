import assert from "node:assert/strict";
import { test } from "node:test";
import { buildForest, renderTree } from "./snapshot-tree.ts";

const volume = (slug: string) => ({ kind: "volume" as const, id: `vol-${slug}`, slug });
const snapshot = (slug: string) => ({ kind: "snapshot" as const, id: `snp-${slug}`, slug });

test("objects stand under what they were made from, also when that was deleted", () => {
  const forest = buildForest([
    { ...volume("clone"), parent: snapshot("v1") },
    { ...snapshot("v2"), parent: volume("gone") },
    { ...snapshot("v1"), parent: volume("gone") },
    { ...volume("alone"), parent: null },
  ]);
  assert.deepEqual(
    forest.map((root) => renderTree(root, (text) => text)),
    [
      "alone  volume vol-alone",
      "gone  volume vol-gone\n├── v1  snapshot snp-v1\n│   └── clone  volume vol-clone\n└── v2  snapshot snp-v2",
    ],
  );
});
