import { formatSize } from "@caisson/model";
import type { JoinToken, Node, NodeLoss } from "@caisson/sdk";
import type { Command } from "commander";
import { usageError } from "../cli-error.ts";
import type { Context } from "../context.ts";
import { addCommonOptions, addExamples, run } from "../define.ts";
import { formatSpan, formatTime } from "../output/format.ts";
import type { Column } from "../output/table.ts";
import { addAuthorityCommands } from "./nodes-authority.ts";

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

/** Shown where at least one node has one. */
const CERTIFICATE: Column<Node> = { title: "CERTIFICATE", value: formatCertificate, isNumeric: true, dropRank: 6 };
/** Of a certificate that is still not renewed then, renewals have failed for a month. */
const CERTIFICATE_LATE_MS = 30 * 86_400_000;

/** Shown where at least one node is labelled. */
const LABELS: Column<Node> = { title: "LABELS", value: formatLabels, dropRank: 7 };

const TOKEN_COLUMNS: readonly Column<JoinToken>[] = [
  { title: "ID", value: ({ id }) => id },
  { title: "REGION", value: ({ region }) => region ?? "any", dropRank: 2 },
  { title: "EXPIRES", value: ({ expiresAt }) => formatTime(expiresAt), dropRank: 1 },
  { title: "NODE", value: ({ nodeId }) => nodeId ?? "-" },
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
        const hasLabels = items.some(({ labels }) => Object.keys(labels).length > 0);
        const hasCertificates = items.some(({ certificateUntil }) => certificateUntil !== null);
        const columns = [...COLUMNS, ...(hasCertificates ? [CERTIFICATE] : []), ...(hasLabels ? [LABELS] : [])];
        context.output.list({ items, columns, id: ({ id }) => id, org: settings.org, empty: "No nodes." });
        for (const node of items) warnOfCertificate(context, node);
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
        warnOfCertificate(context, node);
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

  const setAddress = nodes
    .command("set-address")
    .description("Say where a node is from now on, when its machine has another address")
    .argument("<id>")
    .argument("<address>", "HOST:PORT, where the server reaches the node")
    .action(
      run(async (context, id: string, address: string) => {
        const { client } = await context.connect();
        const node = await client.nodes.setAddress(id, address);
        context.output.confirm(`Node ${id} is looked for at ${node.address}`, node);
        if (!node.connected)
          context.output.note(`On its machine, as root: caisson up --role node --address ${node.address}`);
      }),
    );
  addCommonOptions(setAddress);
  addExamples(setAddress, [["caisson nodes set-address nod_… 10.0.0.9:8485", "When its machine has moved"]]);

  const forget = nodes
    .command("forget")
    .description(
      "Forget a node that is gone for good; refused while it is live, or still holds disks or sandboxes that are not given up with it",
    )
    .argument("<id>")
    .option("--lost", "what it has is lost with it; without --yes the command only says what that is")
    .option("--yes", "with --lost: forget it, with what it has")
    .action(
      run(async (context, id: string, { lost = false, yes = false }: ForgetFlags) => {
        if (yes && !lost) throw usageError("--yes is for --lost");
        const { client } = await context.connect();
        const loss = lost ? await client.nodes.loss(id) : null;
        const words = loss === null ? "" : ` with ${describeLoss(loss)}`;
        if (loss !== null && !yes)
          throw usageError(
            `This would forget node ${id}${words}, and nothing could bring that back`,
            "Add --yes to forget it.",
          );
        await client.nodes.forget(id, { lost });
        context.output.confirm(`Forgot node ${id}${words}`, loss === null ? { id } : { id, loss });
      }),
    );
  addCommonOptions(forget);
  addExamples(forget, [
    ["caisson nodes forget nod_…", "After what it had was purged, and it was stopped for ever"],
    ["caisson nodes forget nod_… --lost", "See what would be lost with a machine that never comes back"],
    ["caisson nodes forget nod_… --lost --yes", "Give it up with all of that"],
  ]);
  addTokensCommands(nodes);
  addAuthorityCommands(nodes);
}

interface ForgetFlags {
  readonly lost?: boolean;
  readonly yes?: boolean;
}

/** What is lost with a node, in words. */
function describeLoss({ volumes, volumeNames, snapshots, replicatedSnapshots, sandboxes }: NodeLoss): string {
  const counted = (count: number, one: string, several: string) => `${count} ${count === 1 ? one : several}`;
  const names = volumeNames.map(({ organization, slug }) => `${organization}/${slug}`);
  const shown = volumes > names.length ? [...names, `${volumes - names.length} more`] : names;
  return [
    `${counted(volumes, "volume", "volumes")}${volumes === 0 ? "" : ` (${shown.join(", ")})`}`,
    counted(snapshots, "snapshot that is not replicated", "snapshots that are not replicated"),
    `and ${counted(sandboxes, "sandbox", "sandboxes")} (${counted(replicatedSnapshots, "replicated snapshot stays", "replicated snapshots stay")} usable)`,
  ].join(", ");
}

/** `caisson nodes tokens ...`. */
function addTokensCommands(nodes: Command): void {
  const tokens = nodes.command("tokens").alias("token").description("Tokens with which machines join as nodes");
  const create = tokens
    .command("create")
    .alias("new")
    .description("Make a token with which one machine joins, once, and print it; it cannot be shown again")
    .option("--expires <duration>", "how long it can be used, as 90s, 15m or 2h (default: 1h)")
    .option("--region <region>", "the only region that the node may have (default: those in its settings)")
    .action(
      run(async (context, options: { readonly expires?: string; readonly region?: string }) => {
        const { client } = await context.connect();
        const token = await client.nodes.createToken({
          ...(options.expires === undefined ? {} : { expiresSeconds: parseSpanSeconds(options.expires) }),
          ...(options.region === undefined ? {} : { region: options.region }),
        });
        context.output.value(token.token, token);
        if (isReadInBetween(token.serverUrl))
          context.output.warn(
            `the machine sends this token to ${token.serverUrl} in the clear, and whoever reads it can join first: set "public_url" on the server to an https:// URL, or use a network of your own`,
          );
        context.output.note(`On the machine that joins, as root: caisson up --role node --join TOKEN`);
      }),
    );
  addCommonOptions(create);
  addExamples(create, [["caisson nodes tokens create --expires 15m", "For a machine that joins now"]]);

  const list = tokens
    .command("list")
    .alias("ls")
    .description("List the tokens that have not expired, without their text")
    .action(
      run(async (context) => {
        const { client, settings } = await context.connect();
        const items = await client.nodes.listTokens();
        context.output.list({
          items,
          columns: TOKEN_COLUMNS,
          id: ({ id }) => id,
          org: settings.org,
          empty: "No tokens.",
        });
      }),
    );
  addCommonOptions(list);
  addExamples(list, [["caisson nodes tokens list", "See which were used"]]);

  const revoke = tokens
    .command("revoke")
    .description("Revoke a token before it expires; a node that has joined with it stays")
    .argument("<id>")
    .action(
      run(async (context, id: string) => {
        const { client } = await context.connect();
        await client.nodes.revokeToken(id);
        context.output.confirm(`Revoked token ${id}`, { id });
      }),
    );
  addCommonOptions(revoke);
  addExamples(revoke, [["caisson nodes tokens revoke jtk_…", "When it went to the wrong place"]]);
}

/** Whether what is sent there leaves this machine without encryption. */
function isReadInBetween(url: string): boolean {
  const { protocol, hostname } = new URL(url);
  return protocol === "http:" && !/^(?:127(?:\.\d+){3}|\[::1\]|(?:.+\.)?localhost)$/.test(hostname);
}

function parseSpanSeconds(text: string): number {
  const match = /^(\d{1,6})([smhd])$/.exec(text);
  const unit = { s: 1, m: 60, h: 3600, d: 86_400 }[match?.[2] ?? ""];
  if (match !== null && unit !== undefined) return Number(match[1]) * unit;
  throw usageError(`${JSON.stringify(text)} is no duration: give a number and a unit, as 90s, 15m or 2h`);
}

function fieldsOf(node: Node): readonly (readonly [name: string, value: string])[] {
  return [
    ["ID", node.id],
    ["STATE", node.state],
    ["DRAINING", node.draining ? "yes" : "no"],
    ["CONNECTED", node.problem ?? "yes"],
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
    ["LABELS", formatLabels(node)],
    ["GENERATION", String(node.generation)],
    ["RUN", node.run || "-"],
    ["STARTED", formatTime(node.startedAt)],
    ["SEEN", formatTime(node.seenAt)],
    ["LEASE UNTIL", formatTime(node.leaseUntil)],
    ["CERTIFICATE UNTIL", node.certificateUntil === null ? "-" : formatTime(node.certificateUntil)],
  ];
}

/** How long it is good. */
function formatCertificate({ certificateUntil }: Node): string {
  if (certificateUntil === null) return "-";
  const leftMs = certificateUntil.getTime() - Date.now();
  return leftMs > 0 ? formatSpan(leftMs) : "expired";
}

/** It is renewed while the node is connected: one that ends soon is of a machine that was away for long, or takes no new one. */
function warnOfCertificate({ output }: Context, { id, certificateUntil }: Node): void {
  if (certificateUntil === null) return;
  const leftMs = certificateUntil.getTime() - Date.now();
  if (leftMs > CERTIFICATE_LATE_MS) return;
  output.warn(
    leftMs > 0
      ? `the certificate of node ${id} ends in ${formatSpan(leftMs)}. It is renewed as soon as the server is connected to the node: start it, or see in the server's log why it takes no new one`
      : `the certificate of node ${id} has expired: run "caisson nodes tokens create" here, and on its machine "caisson up --role node --join TOKEN". It stays the same node with all that it has`,
  );
}

function formatLabels({ labels }: Node): string {
  const pairs = Object.entries(labels).map(([key, value]) => `${key}=${value}`);
  return pairs.length === 0 ? "-" : pairs.join(" ");
}

function formatPlaces({ placesTaken, places }: Node): string {
  return `${placesTaken} of ${places}`;
}

function formatMemory({ memoryTakenMib, memoryMib }: Node): string {
  return memoryMib === null ? `${memoryTakenMib} MiB` : `${memoryTakenMib} of ${memoryMib} MiB`;
}
