import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { chown, glob, mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import pg from "pg";

const run = promisify(execFile);
const START_TIMEOUT_MS = 30_000;

export interface PostgresServerOptions {
  /** Lines of postgresql.conf, for example `max_connections=20`. */
  readonly settings?: readonly string[];
  /** An empty directory, or one from before; it stays. Default: a new one, removed at the end. */
  readonly directory?: string;
  /** Also listens on this port of 127.0.0.1, by TLS too, with a certificate for "localhost" that `certPath` has. */
  readonly tlsPort?: number;
}

/**
 * A PostgreSQL server of a test's own, from the Debian package: on a socket in a temporary directory, as the user `postgres`, gone with everything that it
 * wrote. Nothing is flushed to the disk, since no test cuts the power. It has IPC objects in a namespace of its own, so that also a killed one leaves none.
 */
export class PostgresServer implements AsyncDisposable {
  readonly directory: string;
  readonly #programs: string;
  readonly #user: { readonly uid: number; readonly gid: number };
  readonly #settings: readonly string[];
  readonly #isKept: boolean;
  readonly #tlsPort: number | null;
  #process: ChildProcess | null = null;
  #count = 0;

  private constructor(
    directory: string,
    programs: string,
    user: { readonly uid: number; readonly gid: number },
    { settings = [], directory: given, tlsPort }: PostgresServerOptions,
  ) {
    this.directory = directory;
    this.#programs = programs;
    this.#user = user;
    this.#settings = settings;
    this.#isKept = given !== undefined;
    this.#tlsPort = tlsPort ?? null;
  }

  static async start(options: PostgresServerOptions = {}): Promise<PostgresServer> {
    const directory = options.directory ?? (await mkdtemp(join(tmpdir(), "caisson-pg-")));
    const user = await findUser();
    await chown(directory, user.uid, user.gid);
    const server = new PostgresServer(directory, await findPrograms(), user, options);
    try {
      if ((await readdir(directory)).length === 0) await server.#initialize();
      await server.start();
      return server;
    } catch (error) {
      await server[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** The URL of a database. */
  url(database: string, user = "postgres"): string {
    return `postgres:///${database}?host=${this.directory}&user=${user}`;
  }

  /** Of the server, and of whoever should trust it. */
  get certPath(): string {
    return join(this.directory, "data/server.crt");
  }

  /** Makes a database and returns its URL. */
  async createDatabase({ template = "template1" } = {}): Promise<string> {
    this.#count += 1;
    const name = `test_${this.#count}`;
    await this.query(`CREATE DATABASE ${name} TEMPLATE ${template}`);
    return this.url(name);
  }

  /** Runs statements as the database's administrator. */
  async query(sql: string, database = "postgres"): Promise<readonly Record<string, unknown>[]> {
    const client = new pg.Client({ host: this.directory, port: this.#tlsPort ?? 5432, user: "postgres", database });
    await client.connect();
    try {
      return (await client.query(sql)).rows ?? [];
    } finally {
      await client.end();
    }
  }

  async start(): Promise<void> {
    const network =
      this.#tlsPort === null
        ? ["listen_addresses="]
        : ["listen_addresses=127.0.0.1", `port=${this.#tlsPort}`, "ssl=on"];
    const settings = [...network, `unix_socket_directories=${this.directory}`, "fsync=off", ...this.#settings];
    const { uid, gid } = this.#user;
    const child = spawn(
      "unshare",
      [
        "--ipc",
        "setpriv",
        `--reuid=${uid}`,
        `--regid=${gid}`,
        "--clear-groups",
        "--pdeathsig=KILL",
        join(this.#programs, "postgres"),
        "-D",
        join(this.directory, "data"),
        ...settings.flatMap((setting) => ["-c", setting]),
      ],
      { stdio: ["ignore", "ignore", "pipe"], cwd: this.directory },
    );
    let log = "";
    child.stderr.on("data", (chunk) => {
      log = `${log}${chunk}`.slice(-4000);
    });
    this.#process = child;
    for (const untilMs = Date.now() + START_TIMEOUT_MS; ; ) {
      if (await this.query("SELECT 1").then(Boolean, () => false)) return;
      if (child.exitCode !== null || Date.now() > untilMs) throw new Error(`PostgreSQL does not start: ${log}`);
      await delay(20);
    }
  }

  /** Ends it as an administrator would: connections are cut, and what was committed is kept. */
  stop(): Promise<void> {
    return this.#end("SIGINT");
  }

  /** Ends it at whatever instruction it is, as a crash would. */
  kill(): Promise<void> {
    return this.#end("SIGQUIT");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
    if (!this.#isKept) await rm(this.directory, { recursive: true, force: true });
  }

  async #end(signal: NodeJS.Signals): Promise<void> {
    const child = this.#process;
    this.#process = null;
    if (child === null || child.exitCode !== null) return;
    child.kill(signal);
    await once(child, "exit");
  }

  async #initialize(): Promise<void> {
    const { uid, gid } = this.#user;
    const data = join(this.directory, "data");
    const args = ["--no-sync", "--encoding=UTF8", "--locale=C", "--auth=trust", "--username=postgres", "-D", data];
    const as = { uid, gid, cwd: this.directory };
    await run(join(this.#programs, "initdb"), args, as);
    if (this.#tlsPort === null) return;
    const subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"];
    const files = ["-keyout", join(data, "server.key"), "-out", this.certPath];
    await run("openssl", ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", ...subject, ...files], as);
  }
}

/** The newest version that is installed. */
async function findPrograms(): Promise<string> {
  const found = await Array.fromAsync(glob("/usr/lib/postgresql/*/bin/postgres"));
  const newest = found.sort((a, b) => Number(a.split("/")[4]) - Number(b.split("/")[4])).at(-1);
  if (newest === undefined) throw new Error("PostgreSQL is not installed: run scripts/setup.sh tests");
  return dirname(newest);
}

/** PostgreSQL refuses to run as root. */
async function findUser(): Promise<{ readonly uid: number; readonly gid: number }> {
  const fields = (await readFile("/etc/passwd", "utf8"))
    .split("\n")
    .map((line) => line.split(":"))
    .find(([name]) => name === "postgres");
  return { uid: Number(fields?.[2] ?? 65_534), gid: Number(fields?.[3] ?? 65_534) };
}
