import { resolve } from "node:path";
import type { Command } from "commander";
import { addExamples } from "../define.ts";
import { isOnPath, LINK_OFFER } from "../server-process/launcher-link.ts";
import { PATHS } from "../server-process/paths.ts";
import { prepareHost } from "../server-process/prepare-host.ts";

interface UpFlags {
  readonly data?: string;
  readonly listen?: string;
  readonly config?: string;
}

/** `caisson up`. */
export function addUpCommand(program: Command): void {
  const command = program
    .command("up")
    .description("Run the server in the foreground; Ctrl-C ends it")
    .option("--data <directory>", "where it keeps everything (default: /var/lib/caisson)")
    .option("--listen <host:port>", "where it listens (default: 127.0.0.1:8484, for this machine only)")
    .option("--config <file>", "its settings (default: caisson.toml in the data directory)")
    .action(async (flags: UpFlags) => {
      await prepareHost();
      // Standard output is the server's own.
      if (!isOnPath()) process.stderr.write(`${LINK_OFFER}\n`);
      // The shell's job becomes the server itself: signals, terminal and exit code need no middleman.
      const [file, ...args] = [PATHS.isolate, process.execPath, PATHS.server, "serve", ...serverFlags(flags)];
      if (process.execve === undefined) throw new TypeError("The server runs on Linux only");
      process.execve(file, [file, ...args], process.env);
    });
  addExamples(command, [
    ["caisson up", "Serve from /var/lib/caisson at 127.0.0.1:8484"],
    ["caisson up --data ./data --listen 127.0.0.1:9000", "Another directory and port"],
    ["caisson up --config tls.toml", "For other machines: with tls.cert, tls.key and public_url in the settings"],
  ]);
}

function serverFlags({ data, listen, config }: UpFlags): string[] {
  return [
    ...(data === undefined ? [] : ["--data", resolve(data)]),
    ...(listen === undefined ? [] : ["--listen", listen]),
    ...(config === undefined ? [] : ["--config", resolve(config)]),
  ];
}
