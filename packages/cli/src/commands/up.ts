import { resolve } from "node:path";
import { type Command, Option } from "commander";
import { usageError } from "../cli-error.ts";
import { addExamples } from "../define.ts";
import { isOnPath, LINK_OFFER } from "../server-process/launcher-link.ts";
import { PATHS } from "../server-process/paths.ts";
import { prepareHost } from "../server-process/prepare-host.ts";

interface UpFlags {
  readonly data?: string;
  readonly listen?: string;
  readonly config?: string;
  readonly role?: string;
  readonly join?: string;
  readonly address?: string;
}

/** `caisson up`. */
export function addUpCommand(program: Command): void {
  const command = program
    .command("up")
    .description("Run the server, or a node of another one, in the foreground; Ctrl-C ends it")
    .option("--data <directory>", "where it keeps everything (default: /var/lib/caisson)")
    .option("--listen <host:port>", "where it listens (default: 127.0.0.1:8484, for this machine only)")
    .option("--config <file>", "its settings (default: caisson.toml in the data directory)")
    .addOption(
      new Option(
        "--role <role>",
        "all: the server, with this machine as its node; control: the server alone; node: a node of another server",
      )
        .choices(["all", "control", "node"])
        .default("all"),
    )
    .option("--join <token>", "a node's first start: what `caisson nodes tokens create` printed on the server")
    .option("--address <host:port>", "where the server reaches a node (default: its first address, port 8485)")
    .action(async (flags: UpFlags) => {
      requireFitting(flags);
      // What decides and runs nothing needs neither root nor what sandboxes need.
      const isAlone = flags.role === "control";
      if (!isAlone) await prepareHost();
      // Standard output is the server's own.
      if (!isOnPath()) process.stderr.write(`${LINK_OFFER}\n`);
      // The shell's job becomes the server itself: signals, terminal and exit code need no middleman.
      const serve = [process.execPath, PATHS.server, "serve", ...serverFlags(flags)] as const;
      const [file, ...args] = isAlone ? serve : [PATHS.isolate, ...serve];
      if (process.execve === undefined) throw new TypeError("The server runs on Linux only");
      process.execve(file, [file, ...args], process.env);
    });
  addExamples(command, [
    ["caisson up", "Serve from /var/lib/caisson at 127.0.0.1:8484"],
    ["caisson up --data ./data --listen 127.0.0.1:9000", "Another directory and port"],
    ["caisson up --role node --join cjt_…", "On another machine: a node of the server that made the token"],
    [
      "caisson up --role control",
      "The server alone: machines join it as nodes, and with PostgreSQL others stand by for it",
    ],
    ["caisson up --config tls.toml", "For other machines: with tls.cert, tls.key and public_url in the settings"],
  ]);
}

function requireFitting({ role, listen, join, address }: UpFlags): void {
  if (role === "node" && listen !== undefined)
    throw usageError(
      "A node serves no clients",
      "leave --listen away, and say with --address where its server reaches it",
    );
  if (role !== "node" && (join !== undefined || address !== undefined))
    throw usageError("--join and --address are for --role node");
}

function serverFlags({ data, listen, config, role, join, address }: UpFlags): string[] {
  return [
    ...(role === undefined ? [] : ["--role", role]),
    ...(join === undefined ? [] : ["--join", join]),
    ...(address === undefined ? [] : ["--address", address]),
    ...(data === undefined ? [] : ["--data", resolve(data)]),
    ...(listen === undefined ? [] : ["--listen", listen]),
    ...(config === undefined ? [] : ["--config", resolve(config)]),
  ];
}
