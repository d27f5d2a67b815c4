import { chmod, mkdir, rename, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { SshEndpoint } from "@caisson/sdk";
import { CliError } from "../cli-error.ts";
import { EXIT } from "../exit-codes.ts";

/** Options of a `Host` of OpenSSH, by name. */
export type HostOptions = Readonly<Record<string, string | number>>;

/** Files of our own for OpenSSH, beside the saved servers: the user's `~/.ssh` is neither read nor written. */
export class SshFiles {
  readonly #directory: string;

  constructor(configPath: string) {
    this.#directory = join(dirname(configPath), "ssh");
  }

  /** Writes down by which key the server is known, and returns the options by which clients ask for it: they never ask a person. */
  async writeKnownHost({ hostname, port, hostKey }: SshEndpoint): Promise<HostOptions> {
    const name = hostname.includes(":") || port !== 22 ? `[${hostname}]:${port}` : hostname;
    const path = await this.write(`known-host-${hostname.replaceAll(":", "-")}-${port}`, `${name} ${hostKey}\n`);
    return {
      HostName: hostname,
      Port: port,
      UserKnownHostsFile: quoted(path),
      GlobalKnownHostsFile: "/dev/null",
      StrictHostKeyChecking: "yes",
      UpdateHostKeys: "no",
      ServerAliveInterval: 30,
    };
  }

  /** Writes a file whole, for its owner alone, and returns its path. */
  async write(name: string, text: string): Promise<string> {
    await mkdir(this.#directory, { recursive: true, mode: 0o700 });
    const path = join(this.#directory, name);
    const temporary = `${path}.${process.pid}`;
    await writeFile(temporary, text, { mode: 0o600 });
    await chmod(temporary, 0o600);
    await rename(temporary, path);
    return path;
  }
}

/** A `Host` of OpenSSH's configuration. */
export function hostText(names: readonly string[], options: HostOptions): string {
  const lines = Object.entries(options).map(([name, value]) => `  ${name} ${value}`);
  return [`Host ${names.join(" ")}`, ...lines, ""].join("\n");
}

/** OpenSSH expands `%` and takes no quotes in a path. */
function quoted(path: string): string {
  if (path.includes('"'))
    throw new CliError(
      "INVALID_PATH",
      EXIT.usage,
      `OpenSSH cannot use a path with quotes: ${path}`,
      "Set CAISSON_CONFIG to another file.",
    );
  return `"${path.replaceAll("%", "%%")}"`;
}
