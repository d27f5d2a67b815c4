import type { Duration, Preview } from "@caisson/sdk";
import type { Command } from "commander";
import { usageError } from "../cli-error.ts";
import { addCommonOptions, addExamples, run } from "../define.ts";
import { formatTime } from "../output/format.ts";
import type { Column } from "../output/table.ts";
import { requireSandboxId, takeSandboxId } from "../sandbox-argument.ts";

const COLUMNS: readonly Column<Preview>[] = [
  { title: "DOMAIN", value: ({ domain }) => domain },
  {
    title: "LEADS TO",
    value: ({ port, pid }) => (port !== null ? `port ${port}` : pid !== null ? `process ${pid}` : "-"),
  },
  { title: "PRIVATE", value: ({ isPrivate }) => (isPrivate ? "TRUE" : "FALSE"), dropRank: 1 },
  { title: "CREATED", value: ({ createdAt }) => formatTime(createdAt), dropRank: 2 },
];

interface ExposeFlags {
  readonly private?: boolean;
  readonly rewriteHost?: boolean;
}

/** `caisson expose`. */
export function addExposeCommand(program: Command): void {
  const command = program
    .command("expose")
    .description("Give a server inside a sandbox a public address, and print it; it ends with the sandbox")
    .usage("[options] [sandbox-id] <port>")
    .argument("[words...]", "the sandbox's id (default: $SANDBOX_ID), then the port that the server listens on")
    .option("--private", "let in only who has the token that is printed, or a link by `caisson previews link`")
    .option("--rewrite-host", "show the server inside localhost:port as its host")
    .action(
      run(async (context, words: readonly string[], flags: ExposeFlags) => {
        const { id, rest } = takeSandboxId(words, context.environment);
        const port = readPort(rest);
        const { client } = await context.connect();
        const preview = await client.previews.create(id, {
          port,
          isPrivate: flags.private ?? false,
          isHostRewritten: flags.rewriteHost ?? false,
        });
        context.output.value(preview.url, preview);
        if (preview.token !== null) {
          context.output.note(`Private: send the header X-Caisson-Preview-Token: ${preview.token}`);
          context.output.note(`For a browser: caisson previews link ${id} ${preview.domain}`);
        }
      }),
    );
  addCommonOptions(command);
  addExamples(command, [
    ["caisson expose sbx_ord_… 8000", "Everybody who knows the address can use it"],
    ["caisson expose sbx_ord_… 5173 --private", "Only with the token, or a signed link"],
  ]);
}

/** `caisson previews ...`. */
export function addPreviewsCommands(program: Command): void {
  const previews = program.command("previews").alias("preview").description("Addresses of servers inside a sandbox");
  const list = previews
    .command("list")
    .alias("ls")
    .description("List the previews of a sandbox")
    .argument("[sandbox-id]", "default: $SANDBOX_ID")
    .action(
      run(async (context, given: string | undefined) => {
        const id = requireSandboxId(given, context.environment);
        const { client, settings } = await context.connect();
        const items = await client.previews.list(id);
        const empty = `No previews. Make one: caisson expose ${id} PORT`;
        context.output.list({ items, columns: COLUMNS, id: ({ domain }) => domain, org: settings.org, empty });
      }),
    );
  addCommonOptions(list);
  addExamples(list, [["caisson previews list sbx_ord_…", "See what leads into a sandbox"]]);

  const link = previews
    .command("link")
    .description("Print a link that opens a private preview in a browser until it expires")
    .usage("[options] [sandbox-id] <domain>")
    .argument("[words...]", "the sandbox's id (default: $SANDBOX_ID), then the domain of the preview")
    .option("--expires-in <duration>", "how long it works: 90s, 20m; at most a week", "60m")
    .option("--path <path>", "where it leads on the preview", "/")
    .action(
      run(async (context, words: readonly string[], flags: { readonly expiresIn: string; readonly path: string }) => {
        const { id, rest } = takeSandboxId(words, context.environment);
        const domain = readDomain(rest);
        if (!/^\/(?!\/)/.test(flags.path))
          throw usageError(`Invalid path ${JSON.stringify(flags.path)}`, 'Begin it with one "/".');
        const { client } = await context.connect();
        const made = await client.previews.link(id, domain, {
          expiresIn: flags.expiresIn as Duration,
          path: flags.path,
        });
        context.output.value(made.url, made);
      }),
    );
  addCommonOptions(link);
  addExamples(link, [
    ["caisson previews link sbx_ord_… DOMAIN --expires-in 20m", "Twenty minutes for whoever gets the link"],
  ]);

  const revoke = previews
    .command("revoke")
    .aliases(["delete", "rm", "remove"])
    .description("End a preview, and every connection through it")
    .usage("[options] [sandbox-id] <domain>")
    .argument("[words...]", "the sandbox's id (default: $SANDBOX_ID), then the domain of the preview")
    .action(
      run(async (context, words: readonly string[]) => {
        const { id, rest } = takeSandboxId(words, context.environment);
        const domain = readDomain(rest);
        const { client } = await context.connect();
        await client.previews.revoke(id, domain);
        context.output.confirm(`Revoked ${domain}`, { domain });
      }),
    );
  addCommonOptions(revoke);
  addExamples(revoke, [["caisson previews revoke sbx_ord_… DOMAIN", "Close one address"]]);
}

/** The port, of what is left of the arguments. */
function readPort([text, ...extra]: readonly string[]): number {
  if (text !== undefined && extra.length === 0) return parsePort(text, "the port");
  throw usageError("Give one port, for example 8000");
}

/** Reads a port that the user gave. */
export function parsePort(text: string, what: string): number {
  const port = Number(text);
  if (/^\d{1,5}$/.test(text) && port >= 1 && port <= 65_535) return port;
  throw usageError(`Invalid port ${JSON.stringify(text)}`, `Give ${what} as a number from 1 to 65535.`);
}

/** The domain, also where the whole address was given. */
function readDomain([text, ...extra]: readonly string[]): string {
  if (text !== undefined && extra.length === 0) return text.replace(/^https:\/\//, "").replace(/\/.*$/, "");
  throw usageError("Give one domain, as `caisson previews list` shows it");
}
