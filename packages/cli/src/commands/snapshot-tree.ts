import type { Client, Snapshot, Volume } from "@caisson/sdk";
import type { Command } from "commander";
import { addCommonOptions, addExamples, run } from "../define.ts";
import { printable } from "../output/printable.ts";
import { requireFound } from "../with-suggestion.ts";

/** One volume or snapshot and what was made from it. */
export interface TreeNode {
  readonly kind: "volume" | "snapshot" | "image";
  readonly id: string;
  readonly slug: string;
  readonly children: TreeNode[];
}

/** `caisson snapshots tree`. */
export function addTreeCommand(snapshots: Command): void {
  const command = snapshots
    .command("tree")
    .description("Show what was made from what: volumes, their snapshots, and volumes made from those")
    .argument("[id-or-slug]", "only from this volume or snapshot down")
    .action(
      run(async (context, name: string | undefined) => {
        const { client, settings } = await context.connect();
        const roots = name === undefined ? await wholeForest(client) : [await subtree(client, name)];
        const { dim } = context.output.colors;
        if (context.output.isJson) context.output.value("", { items: roots, org: settings.org ?? null });
        else if (roots.length > 0) context.output.text(roots.map((root) => renderTree(root, dim)).join("\n"));
        else context.output.note("No volumes and no snapshots.");
      }),
    );
  addCommonOptions(command);
  addExamples(command, [
    ["caisson snapshots tree", "The lineage of everything"],
    ["caisson snapshots tree root-v1", "What came from one snapshot"],
  ]);
}

/** Draws a tree with lines, the kind of each object beside its slug. */
export function renderTree(root: TreeNode, dim: (text: string) => string): string {
  const lines: string[] = [];
  const draw = (node: TreeNode, lead: string, childLead: string): void => {
    const kind = node.kind === "image" ? "image" : `${node.kind} ${node.id}`;
    lines.push(`${dim(lead)}${printable(node.slug)}  ${dim(printable(kind))}`);
    node.children.forEach((child, index) => {
      const isLast = index === node.children.length - 1;
      draw(child, `${childLead}${isLast ? "└── " : "├── "}`, `${childLead}${isLast ? "    " : "│   "}`);
    });
  };
  draw(root, "", "");
  return lines.join("\n");
}

async function wholeForest(client: Client): Promise<TreeNode[]> {
  const [volumes, snapshots] = await Promise.all([
    client.volumes.list({ limit: 100 }).then((page) => Array.fromAsync(page)),
    client.snapshots.list({ limit: 100 }).then((page) => Array.fromAsync(page)),
  ]);
  const links = [
    ...volumes.map((volume) => ({ kind: "volume" as const, ...pick(volume), parent: volume.parent })),
    ...snapshots.map((snapshot) => ({
      kind: "snapshot" as const,
      ...pick(snapshot),
      parent: { kind: "volume" as const, ...snapshot.volume },
    })),
  ];
  return buildForest(links);
}

interface Link extends Omit<TreeNode, "children"> {
  readonly parent: (Omit<TreeNode, "children"> & object) | null;
}

/** Puts objects under their parents. A parent that was deleted is shown as well, because its children came from it. */
export function buildForest(links: readonly Link[]): TreeNode[] {
  const nodes = new Map<string, TreeNode>(links.map(({ kind, id, slug }) => [id, { kind, id, slug, children: [] }]));
  const roots: TreeNode[] = [];
  for (const { id, parent } of links.toSorted((first, second) => compare(first.slug, second.slug))) {
    const node = nodes.get(id);
    if (node === undefined) continue;
    if (parent === null) {
      roots.push(node);
      continue;
    }
    let parentNode = nodes.get(parent.id);
    if (parentNode === undefined) {
      parentNode = { kind: parent.kind, id: parent.id, slug: parent.slug, children: [] };
      nodes.set(parent.id, parentNode);
      roots.push(parentNode);
    }
    parentNode.children.push(node);
  }
  return roots.sort((first, second) => compare(first.slug, second.slug));
}

async function subtree(client: Client, name: string): Promise<TreeNode> {
  const { kind, object } = await findAny(client, name);
  const descendants = await (kind === "volume" ? client.volumes : client.snapshots).descendants(object.id);
  const root = { kind, ...pick(object) };
  const parents = new Map([root, ...descendants].map((node) => [node.id, node]));
  const links = descendants.map((node) => {
    const parent = parents.get(node.parentId);
    return {
      kind: node.kind,
      ...pick(node),
      parent: parent === undefined ? root : { kind: parent.kind, ...pick(parent) },
    };
  });
  const [tree] = buildForest([{ ...root, parent: null }, ...links]);
  return tree ?? { ...root, children: [] };
}

/** Volumes and snapshots share one space of slugs. */
async function findAny(
  client: Client,
  name: string,
): Promise<{ readonly kind: "volume" | "snapshot"; readonly object: Volume | Snapshot }> {
  const volume = await client.volumes.get(name);
  if (volume !== null) return { kind: "volume", object: volume };
  return { kind: "snapshot", object: await requireFound(client, "snapshot", name, client.snapshots.get(name)) };
}

function pick({ id, slug }: { readonly id: string; readonly slug: string }) {
  return { id, slug };
}

function compare(first: string, second: string): number {
  return first < second ? -1 : first > second ? 1 : 0;
}
