import { type ChildProcess, type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { once } from "node:events";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Readable } from "node:stream";

export interface SshEndpoint {
  readonly hostname: string;
  readonly port: number;
  readonly host_key: string;
  readonly fingerprint: string;
}

export interface Finished {
  readonly stdout: Buffer;
  readonly stderr: string;
  readonly code: number | null;
}

/** OpenSSH's own programs, with files of their own: what the user has in ~/.ssh is neither read nor written. */
export class SshClient {
  readonly endpoint: SshEndpoint;
  readonly #directory: string;
  readonly #options: readonly string[];

  private constructor(endpoint: SshEndpoint, directory: string) {
    this.endpoint = endpoint;
    this.#directory = directory;
    const settings = {
      UserKnownHostsFile: join(directory, "known_hosts"),
      GlobalKnownHostsFile: "/dev/null",
      StrictHostKeyChecking: "yes",
      IdentityFile: "/nonexistent",
      IdentityAgent: "none",
      BatchMode: "yes",
    };
    this.#options = [
      "-F",
      "/dev/null",
      ...Object.entries(settings).flatMap(([name, value]) => ["-o", `${name}=${value}`]),
    ];
  }

  static async of(endpoint: SshEndpoint, directory: string): Promise<SshClient> {
    const line = `[${endpoint.hostname}]:${endpoint.port} ${endpoint.host_key}\n`;
    await writeFile(join(directory, "known_hosts"), line);
    return new SshClient(endpoint, directory);
  }

  path(name: string): string {
    return join(this.#directory, name);
  }

  /** The options that `ssh`, `scp` and `sftp` share. */
  get options(): readonly string[] {
    return [...this.#options, "-o", `Port=${this.endpoint.port}`];
  }

  /** How rsync and others call ssh. */
  get shellWords(): string {
    return ["ssh", ...this.options].join(" ");
  }

  at(username: string): string {
    return `${username}@${this.endpoint.hostname}`;
  }

  /** Starts `ssh`; `more` are further options. */
  start(username: string, command: readonly string[], more: readonly string[] = []): ChildProcessWithoutNullStreams {
    return spawn("ssh", [...this.options, ...more, this.at(username), ...command]);
  }

  /** Runs `ssh` to its end. */
  async ssh(
    username: string,
    command: readonly string[],
    { input = "", more = [] }: { readonly input?: string | Buffer; readonly more?: readonly string[] } = {},
  ): Promise<Finished> {
    return finished(this.start(username, command, more), input);
  }

  /** Runs another program to its end. */
  async run(program: string, args: readonly string[], input: string | Buffer = ""): Promise<Finished> {
    return finished(spawn(program, args), input);
  }
}

/** Gives a program its input and resolves with all that it wrote. */
export async function finished(child: ChildProcessWithoutNullStreams, input: string | Buffer = ""): Promise<Finished> {
  const stdout: Buffer[] = [];
  let stderr = "";
  child.stdout.on("data", (bytes: Buffer) => stdout.push(bytes));
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    stderr += text;
  });
  child.stdin.on("error", () => {});
  Readable.from(input.length === 0 ? [] : [input]).pipe(child.stdin);
  const [code] = (await once(child, "close")) as [number | null];
  return { stdout: Buffer.concat(stdout), stderr, code };
}

export async function ended(child: ChildProcess): Promise<number | null> {
  if (child.exitCode !== null || child.signalCode !== null) return child.exitCode;
  const [code] = (await once(child, "close")) as [number | null];
  return code;
}
