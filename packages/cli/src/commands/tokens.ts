import type { Client, CreatedToken, Organization, Token } from "@caisson/sdk";
import type { Command } from "commander";
import { CliError } from "../cli-error.ts";
import { loadSdk } from "../context.ts";
import { addCommonOptions, addExamples, run } from "../define.ts";
import { EXIT } from "../exit-codes.ts";
import { formatTime } from "../output/format.ts";
import type { Column } from "../output/table.ts";
import { closest } from "../suggest.ts";

const TOKEN_COLUMNS: readonly Column<Token>[] = [
  { title: "ID", value: ({ id }) => id },
  { title: "NAME", value: ({ name }) => name },
  { title: "CREATED", value: ({ createdAt }) => formatTime(createdAt), dropRank: 1 },
];

const ORGANIZATION_COLUMNS: readonly Column<Organization>[] = [
  { title: "ID", value: ({ id }) => id },
  { title: "SLUG", value: ({ slug }) => slug },
  { title: "CREATED", value: ({ createdAt }) => formatTime(createdAt), dropRank: 1 },
];

/** `caisson tokens ...`. */
export function addTokensCommands(program: Command): void {
  const tokens = program.command("tokens").alias("token").description("Access tokens of the organization");
  const create = tokens
    .command("create")
    .alias("new")
    .description("Create a token and print it; it cannot be shown again")
    .argument("<name>", "what it is for")
    .option("--for <organization>", "make it for this organization (needs a token of the server's first one)")
    .action(
      run(async (context, name: string, options: { readonly for?: string }) => {
        const { client } = await context.connect();
        const organization = options.for === undefined ? {} : { organization: options.for };
        const token = await client.tokens.create({ name, ...organization });
        context.output.value(token.token, token);
        context.output.note(`Keep it: it is not shown again. To revoke it: caisson tokens revoke ${token.id}`);
      }),
    );
  addCommonOptions(create);
  addExamples(create, [
    ["caisson tokens create ci", "A token for the own organization"],
    ["caisson tokens create ci --for acme", "A token for another organization"],
  ]);

  const list = tokens
    .command("list")
    .alias("ls")
    .description("List the organization's tokens, without their text")
    .action(
      run(async (context) => {
        const { client, settings } = await context.connect();
        const items = await client.tokens.list();
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
  addExamples(list, [["caisson tokens list", "Find the id of a token to revoke"]]);

  const rotate = tokens
    .command("rotate")
    .description("Put a new token in the place of one and print it; the old one is revoked at once")
    .argument("[id]", "default: the token in use")
    .action(
      run(async (context, id: string | undefined) => {
        const { client } = await context.connect();
        const token = await rotateOne(client, id);
        context.output.value(token.token, token);
        context.output.note(
          id === undefined
            ? 'The token in use is revoked now. If it came from "caisson env", that prints the new one: eval "$(caisson env)"'
            : `The token ${id} is revoked now; this one takes its place`,
        );
      }),
    );
  addCommonOptions(rotate);
  addExamples(rotate, [
    ["caisson tokens rotate", "A new token for this shell; `caisson env` knows it too"],
    ["caisson tokens rotate tok_…", "A new one with the name of another"],
  ]);

  const revokeCommand = tokens
    .command("revoke")
    .aliases(["delete", "rm", "remove"])
    .description("Revoke a token at once, and end the connections that it opened")
    .argument("<id>")
    .action(
      run(async (context, id: string) => {
        const { client } = await context.connect();
        await revoke(client, id);
        context.output.confirm(`Revoked token ${id}`, { id });
      }),
    );
  addCommonOptions(revokeCommand);
  addExamples(revokeCommand, [["caisson tokens revoke tok_…", "Revoke by id"]]);
}

async function rotateOne(client: Client, id: string | undefined): Promise<CreatedToken> {
  try {
    return await client.tokens.rotate(id);
  } catch (error) {
    return failOn(error, client, id ?? "");
  }
}

async function revoke(client: Client, id: string): Promise<void> {
  try {
    await client.tokens.delete(id);
  } catch (error) {
    await failOn(error, client, id);
  }
}

/** Tokens are named by id, since a name may stand for several: throws what says which was meant. */
async function failOn(error: unknown, client: Client, id: string): Promise<never> {
  const { NotFoundError } = await loadSdk();
  if (!(error instanceof NotFoundError)) throw error;
  const tokens = await client.tokens.list();
  const named = tokens.filter(({ name }) => name === id).map((token) => token.id);
  const meant =
    named.length > 0
      ? named
      : [
          closest(
            id,
            tokens.map((token) => token.id),
          ) ?? [],
        ].flat();
  const hint =
    meant.length > 0 ? `Did you mean ${meant.join(" or ")}?` : "List them with their ids: caisson tokens list";
  throw new CliError("TOKEN_NOT_FOUND", EXIT.notFound, `There is no token ${JSON.stringify(id)}`, hint);
}

/** `caisson orgs ...`. */
export function addOrgsCommands(program: Command): void {
  const orgs = program
    .command("orgs")
    .alias("org")
    .description("Organizations: tenants that see nothing of one another");
  const create = orgs
    .command("create")
    .alias("new")
    .description("Create an organization and print its id (needs a token of the server's first one)")
    .argument("<slug>")
    .action(
      run(async (context, slug: string) => {
        const { client } = await context.connect();
        const organization = await client.organizations.create({ slug });
        context.output.value(organization.id, organization);
        context.output.note(`Make a token for it: caisson tokens create NAME --for ${organization.slug}`);
      }),
    );
  addCommonOptions(create);
  addExamples(create, [["caisson orgs create acme", "A new tenant"]]);

  const list = orgs
    .command("list")
    .alias("ls")
    .description("List the organizations that the token may see")
    .action(
      run(async (context) => {
        const { client, settings } = await context.connect();
        const items = await client.organizations.list();
        const empty = "No organizations.";
        context.output.list({ items, columns: ORGANIZATION_COLUMNS, id: ({ id }) => id, org: settings.org, empty });
      }),
    );
  addCommonOptions(list);
  addExamples(list, [["caisson orgs list --json", "For programs"]]);
}
