import { formatSize } from "@caisson/model";
import type { Node } from "@caisson/sdk";
import type { Command } from "commander";
import { addCommonOptions, addExamples, run } from "../define.ts";
import { formatSpan, formatTime } from "../output/format.ts";
import type { Column } from "../output/table.ts";

const COLUMNS: readonly Column<Node>[] = [
  { title: "ID", value: ({ id }) => id },
  { title: "STATE", value: ({ state, connected }) => (connected ? state : `${state}, not connected`) },
  { title: "SANDBOXES", value: formatPlaces, isNumeric: true, dropRank: 1 },
  { title: "MEMORY", value: formatMemory, isNumeric: true, dropRank: 3 },
  { title: "REGIONS", value: ({ regions }) => regions.join(" "), dropRank: 5 },
  { title: "ADDRESS", value: ({ address }) => address, dropRank: 2 },
  {
    title: "SEEN",
    value: ({ seenAt }) => `${formatSpan(Date.now() - seenAt.getTime())} ago`,
    isNumeric: true,
    dropRank: 4,
  },
];

/** `caisson nodes ...`. */
export function addNodesCommands(program: Command): void {
  const nodes = program
    .command("nodes")
    .alias("node")
    .description("Machines that hold volumes and run sandboxes (needs a token of the server's first organization)");
  const list = nodes
    .command("list")
    .alias("ls")
    .description("List the nodes, and how much of each is taken")
    .action(
      run(async (context) => {
        const { client, settings } = await context.connect();
        const items = await client.nodes.list();
        context.output.list({ items, columns: COLUMNS, id: ({ id }) => id, org: settings.org, empty: "No nodes." });
      }),
    );
  addCommonOptions(list);
  addExamples(list, [["caisson nodes list", "See which are live, and which have room"]]);

  const show = nodes
    .command("show")
    .alias("get")
    .description("Show one node")
    .argument("<id>")
    .action(
      run(async (context, id: string) => {
        const { client } = await context.connect();
        const node = await client.nodes.get(id);
        context.output.fields(fieldsOf(node), node.id, node);
      }),
    );
  addCommonOptions(show);
  addExamples(show, [["caisson nodes show nod_… --json", "Everything about a node, for programs"]]);

  const drain = nodes
    .command("drain")
    .description("Keep new sandboxes away from a node, until undrain; those that it has go on")
    .argument("<id>")
    .action(
      run(async (context, id: string) => {
        const { client } = await context.connect();
        const node = await client.nodes.drain(id);
        context.output.confirm(`Node ${id} takes no new sandboxes; it has ${node.placesTaken}`, node);
        context.output.note(`Wait for their end: caisson nodes show ${id}`);
      }),
    );
  addCommonOptions(drain);
  addExamples(drain, [["caisson nodes drain nod_…", "Before the machine is taken down"]]);

  const undrain = nodes
    .command("undrain")
    .description("Let a node have new sandboxes again")
    .argument("<id>")
    .action(
      run(async (context, id: string) => {
        const { client } = await context.connect();
        context.output.confirm(`Node ${id} takes new sandboxes`, await client.nodes.undrain(id));
      }),
    );
  addCommonOptions(undrain);
  addExamples(undrain, [["caisson nodes undrain nod_…", "When the machine is back"]]);

  const forget = nodes
    .command("forget")
    .description("Forget a node that is gone for good; refused while it is live or holds disks or sandboxes")
    .argument("<id>")
    .action(
      run(async (context, id: string) => {
        const { client } = await context.connect();
        await client.nodes.forget(id);
        context.output.confirm(`Forgot node ${id}`, { id });
      }),
    );
  addCommonOptions(forget);
  addExamples(forget, [["caisson nodes forget nod_…", "After its server was stopped for ever"]]);
}

function fieldsOf(node: Node): readonly (readonly [name: string, value: string])[] {
  const labels = Object.entries(node.labels).map(([key, value]) => `${key}=${value}`);
  return [
    ["ID", node.id],
    ["STATE", node.state],
    ["CONNECTED", node.problem ?? "yes"],
    ["DRAINING", node.draining ? "yes" : "no"],
    ["SANDBOXES", formatPlaces(node)],
    ["MEMORY", formatMemory(node)],
    ["REGIONS", node.regions.join(" ")],
    [
      "FREE",
      Object.entries(node.free)
        .map(([region, bytes]) => `${region} ${formatSize(bytes)}`)
        .join(", ") || "-",
    ],
    ["ADDRESS", node.address],
    ["LABELS", labels.length === 0 ? "-" : labels.join(" ")],
    ["GENERATION", String(node.generation)],
    ["RUN", node.run || "-"],
    ["STARTED", formatTime(node.startedAt)],
    ["SEEN", formatTime(node.seenAt)],
    ["LEASE UNTIL", formatTime(node.leaseUntil)],
  ];
}

function formatPlaces({ placesTaken, places }: Node): string {
  return `${placesTaken} of ${places}`;
}

function formatMemory({ memoryTakenMib, memoryMib }: Node): string {
  return memoryMib === null ? `${memoryTakenMib} MiB` : `${memoryTakenMib} of ${memoryMib} MiB`;
}
