import type { NodeAuthority } from "@caisson/sdk";
import type { Command } from "commander";
import { usageError } from "../cli-error.ts";
import type { Context } from "../context.ts";
import { addCommonOptions, addExamples, run } from "../define.ts";
import { formatCount, formatSpan, formatTime } from "../output/format.ts";

/** `caisson nodes authority ...`. */
export function addAuthorityCommands(nodes: Command): void {
  const authority = nodes
    .command("authority")
    .description("The authority that signs the certificates of nodes and servers, and its renewal");
  const show = authority
    .command("show")
    .alias("get")
    .description("Show until when the authority is good; while it is being renewed, which nodes it still waits for")
    .action(
      run(async (context) => {
        const { client } = await context.connect();
        const state = await client.nodes.authority();
        context.output.fields(fieldsOf(state), String(state.authorities.at(-1)?.number ?? 0), state);
        explain(context, state);
      }),
    );
  addCommonOptions(show);
  addExamples(show, [["caisson nodes authority show", "See which nodes have no certificate of the new authority yet"]]);

  const renew = authority
    .command("renew")
    .description(
      "Make a new authority, and give each node a certificate of it; the old one is believed too until it is retired. A server does so by itself when two years are left",
    )
    .action(
      run(async (context) => {
        const { client } = await context.connect();
        const state = await client.nodes.renewAuthority();
        context.output.confirm(
          `Made authority ${state.authorities.at(-1)?.number}, which each node gets a certificate of`,
          state,
        );
        context.output.warn(
          "back the database up now: what is restored from before does not know the new authority, and each node has to join again there, by a token",
        );
        context.output.note("See how far it is: caisson nodes authority show");
      }),
    );
  addCommonOptions(renew);
  addExamples(renew, [["caisson nodes authority renew", "Before the old one ends, or when its key may have leaked"]]);

  const retire = authority
    .command("retire")
    .description(
      "Retire the old authority once each node has a certificate of the new one; tokens for joining that were made before are gone then. With nodes that would be locked out it says which these are, and changes nothing without --yes",
    )
    .option("--yes", "also if nodes are locked out until they join again")
    .action(
      run(async (context, { yes = false }: { readonly yes?: boolean }) => {
        const { client } = await context.connect();
        const before = await client.nodes.authority();
        const waiting = before.waitingNodes;
        if (before.authorities.length > 1 && waiting.length > 0 && !yes)
          throw usageError(
            `This would lock out ${describe(waiting)} until they join again, by "caisson nodes tokens create" here, and "caisson up --role node --join TOKEN" there`,
            "Have them connected first, which gives them a certificate of the new authority, or add --yes.",
          );
        const state = await client.nodes.retireAuthority({ lockOut: yes });
        context.output.confirm(`Retired authority ${before.authorities[0]?.number}`, state);
        explain(context, state);
      }),
    );
  addCommonOptions(retire);
  addExamples(retire, [
    ["caisson nodes authority retire", "When each node has a certificate of the new authority"],
    ["caisson nodes authority retire --yes", "At once, because the key of the old one leaked"],
  ]);
}

function fieldsOf({ authorities, waitingNodes }: NodeAuthority): readonly (readonly [name: string, value: string])[] {
  const [only, next] = authorities;
  if (only === undefined) return [["AUTHORITY", "none was made yet"]];
  const titles = next === undefined ? ["AUTHORITY"] : ["OLD AUTHORITY", "NEW AUTHORITY"];
  return [
    ...authorities.map(
      ({ number, expiresAt }, index) =>
        [
          titles[index] ?? "AUTHORITY",
          `${number}, until ${formatTime(expiresAt)} (${formatSpan(expiresAt.getTime() - Date.now())})`,
        ] as const,
    ),
    ...authorities.map(
      ({ fingerprint }, index) => [`FINGERPRINT${next === undefined ? "" : ` ${index + 1}`}`, fingerprint] as const,
    ),
    [next === undefined ? "LOCKED OUT" : "WAITS FOR", waitingNodes.join(" ") || "-"],
  ];
}

function explain({ output }: Context, { authorities, waitingNodes }: NodeAuthority): void {
  const count = waitingNodes.length;
  if (authorities.length > 1)
    output.note(
      count === 0
        ? "Each node has a certificate of the new authority. End with the old one: caisson nodes authority retire"
        : `${formatCount(count, "node")} without a certificate of the new authority: each gets one as soon as the server is connected to it.`,
    );
  else if (count > 0)
    output.warn(
      `locked out: ${describe(waitingNodes)}. Run "caisson nodes tokens create" here, and on the machine "caisson up --role node --join TOKEN": it stays the same node with all that it has`,
    );
}

function describe(ids: readonly string[]): string {
  const shown = ids.slice(0, 20);
  const more = ids.length - shown.length;
  return `${formatCount(ids.length, "node")} (${shown.join(", ")}${more > 0 ? `, and ${more} more` : ""})`;
}
