import assert from "node:assert/strict";
import { test } from "node:test";
import type { BaseImage, Node } from "@caisson/node";
import type { AppContext } from "../context.ts";
import { nodesWithout, pickNode } from "./node-choice.ts";
import { connectedNode, NodeDirectory } from "./node-directory.ts";

const BASE: BaseImage = { name: "builtin:debian-13", imageId: "img_ord", sizeBytes: 1 };

function add(nodes: NodeDirectory, nodeId: string, region: string, baseImages: readonly BaseImage[] = [BASE]): void {
  const description = { runId: nodeId, labels: {}, placeCount: 1, placeBound: null, retriedWorkCount: 0 };
  const regions = [{ name: region, baseImages, hasReplicated: false }];
  nodes.add(connectedNode({ nodeId, generation: 1 }, {} as Node, { ...description, regions }));
}

test("a region that only nodes on other machines have is one, also while they cannot be reached, and the default where nothing else can be", () => {
  const nodes = new NodeDirectory(null);
  assert.equal(nodes.hasRegion("ord"), false);
  assert.equal(nodes.defaultRegion("ord"), "ord", "there is none yet: the refusal names what was set");
  assert.equal(nodes.defaultRegion(undefined), "");
  nodes.knowRegions(new Set(["fra", "ams"]));
  assert.deepEqual(
    ["ord", "ams", "fra"].map((region) => nodes.hasRegion(region)),
    [false, true, true],
  );
  assert.equal(nodes.defaultRegion("ord"), "ams");
  assert.equal(nodes.defaultRegion("fra"), "fra");
  add(nodes, "nod_a", "ord");
  assert.equal(nodes.hasRegion("ord"), true);
  assert.equal(nodes.defaultRegion("ord"), "ord");
});

test("a node whose pool had no room for the base image is picked last, and told to the store", async () => {
  const nodes = new NodeDirectory(null);
  add(nodes, "nod_bare", "ord", []);
  add(nodes, "nod_full", "ord");
  const rows = ["nod_bare", "nod_full"].map((id) => ({
    id,
    isDraining: id === "nod_full",
    freeBytes: { ord: id === "nod_bare" ? 100 : 1 },
  }));
  const app = { nodes, store: { nodes: { list: async () => rows } } } as unknown as AppContext;
  assert.deepEqual(nodesWithout(app, "ord", BASE.name), ["nod_bare"]);
  assert.equal((await pickNode(app, "ord")).owner.nodeId, "nod_bare");
  assert.equal((await pickNode(app, "ord", BASE.name)).owner.nodeId, "nod_full");
});
