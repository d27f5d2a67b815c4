import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Sandbox } from "@deno/sandbox";
import ssh2, { type Client } from "ssh2";
import { TestClient } from "./client.ts";
import { TestServer } from "./server.ts";
import { SshClient, type SshEndpoint } from "./ssh-client.ts";

/** A server with two sandboxes, and OpenSSH's clients. */
export class SshWorld implements AsyncDisposable {
  readonly server: TestServer;
  readonly client: TestClient;
  readonly ssh: SshClient;
  readonly sandbox: Sandbox;
  readonly other: Sandbox;
  /** A user name of the first sandbox. */
  readonly username: string;
  readonly #directory: string;

  private constructor(
    parts: Pick<SshWorld, "server" | "client" | "ssh" | "sandbox" | "other" | "username">,
    directory: string,
  ) {
    this.server = parts.server;
    this.client = parts.client;
    this.ssh = parts.ssh;
    this.sandbox = parts.sandbox;
    this.other = parts.other;
    this.username = parts.username;
    this.#directory = directory;
  }

  static async start(settings = ""): Promise<SshWorld> {
    const server = await TestServer.start({ settings });
    const directory = await mkdtemp(join(tmpdir(), "caisson-ssh-"));
    try {
      Object.assign(process.env, server.clientEnv());
      const client = new TestClient(server);
      const ssh = await SshClient.of(await client.rest<SshEndpoint>("GET", "/api/v1/ssh"), directory);
      const [sandbox, other] = [await Sandbox.create(), await Sandbox.create()];
      const { username } = await sandbox.exposeSsh();
      return new SshWorld({ server, client, ssh, sandbox, other, username }, directory);
    } catch (error) {
      await server[Symbol.asyncDispose]();
      throw error;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.sandbox.kill();
    await this.other.kill();
    await this.server[Symbol.asyncDispose]();
    await rm(this.#directory, { recursive: true });
  }

  /** The library's client, logged in to the first sandbox: OpenSSH's own does not misbehave. */
  async openRaw(): Promise<Client> {
    const raw = new ssh2.Client();
    raw.on("error", () => {});
    const { hostname: host, port } = this.ssh.endpoint;
    raw.connect({ host, port, username: this.username, hostVerifier: () => true });
    await once(raw, "ready");
    return raw;
  }

  /** Runs a command in the first sandbox and returns what it printed. */
  async shell(command: string): Promise<string> {
    const { stdout } = await this.ssh.ssh(this.username, [command]);
    return stdout.toString().replace(/\n$/, "");
  }
}
