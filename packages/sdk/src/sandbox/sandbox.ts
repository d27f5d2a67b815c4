import { setTimeout as delay } from "node:timers/promises";
import { DEFAULT_REGION, resolveConfiguration } from "../core/configuration.ts";
import { ConnectionClosedError, NetworkError, NotFoundError } from "../core/errors.ts";
import { HttpClient, path, type RequestOptions } from "../core/http.ts";
import { inspectAs, inspectSymbol } from "../core/inspect.ts";
import type { Duration } from "../core/limits.ts";
import { SandboxFs } from "../fs/sandbox-fs.ts";
import type { CallOptions, Connection } from "../internal/connection.ts";
import { orAbort } from "../internal/or-abort.ts";
import { toPath } from "../internal/path.ts";
import { ChildProcess } from "../process/child-process.ts";
import { SandboxCommandBuilder } from "../process/command-builder.ts";
import { notSupported, SandboxDeno } from "../process/deno.ts";
import { fetchInside, type RequestInit } from "../process/fetch.ts";
import { type SpawnOptions, startProcess } from "../process/spawn.ts";
import { openTerminal, type Terminal, type TerminalOptions } from "../process/terminal.ts";
import { type Connected, connectSandbox } from "./connect.ts";
import {
  dataLost,
  EXPLAIN_MS,
  explainEnd,
  extendSandbox,
  killSandbox,
  reserveExposure,
  revokeExposure,
  waitUntilStopped,
} from "./control.ts";
import { createConfig } from "./create-config.ts";
import { SandboxEnv } from "./environment.ts";
import { parseSandboxId } from "./id.ts";
import { reportShortened } from "./lifetime.ts";
import type { ConnectOptions, SandboxOptions } from "./options.ts";
import { type SshAccess, toSshAccess } from "./ssh-access.ts";
import { startVsCode, type VsCode, type VsCodeOptions } from "./vscode.ts";

/** How long `kill` waits for the server to close the connection before it does so itself, in milliseconds. */
const KILL_CLOSE_MS = 5_000;
/** How long a failed creation waits for the server to end what it created, in milliseconds. */
const DISCARD_MS = 5_000;

interface SandboxInit extends Connected {
  readonly http: HttpClient;
  readonly origin: string;
  readonly isDebug: boolean;
  /** True when the end of this connection is the end of the sandbox. */
  readonly isSession: boolean;
  readonly hasVolumes: boolean;
}

/**
 * A running sandbox and the connection to it.
 *
 * ```ts
 * await using sandbox = await Sandbox.create({ volumes: { "/data": "my-volume" } });
 * await sandbox.fs.writeTextFile("/data/hello.txt", "Persist me!\n");
 * console.log(await sandbox.sh`cat /data/hello.txt`.text());
 * ```
 */
export class Sandbox implements AsyncDisposable {
  /** The sandbox's files. */
  readonly fs: SandboxFs;
  /** Runs JavaScript and TypeScript in the sandbox. */
  readonly deno: SandboxDeno;
  /** The sandbox's environment variables. */
  readonly env: SandboxEnv;
  readonly #init: SandboxInit;
  readonly #connection: Connection;
  #ssh: SshAccess | undefined;
  #url: string | undefined;
  #stopAt: Date | null;
  #endsWithConnection: boolean;
  #closing: Promise<void> | null = null;

  /** @internal */
  constructor(init: SandboxInit) {
    this.#init = init;
    this.#connection = init.connection;
    this.#stopAt = init.stopAt;
    this.#endsWithConnection = init.isSession;
    this.fs = new SandboxFs(init.connection);
    this.deno = new SandboxDeno(init.connection);
    this.env = new SandboxEnv(init.connection);
    const { http, origin } = init;
    init.connection.explainEnd((error) => explainEnd(http, origin, init.sandboxId, error));
    if (init.isDebug) {
      const { sandboxId, requestId, connection } = init;
      console.error(`caisson: connected to ${sandboxId} (request ${requestId ?? "without id"})`);
      void connection.closed.then(() => console.error(`caisson: connection to ${sandboxId} closed`));
    }
  }

  /**
   * Creates a sandbox and connects to it.
   * Throws {@linkcode ConnectionEstablishmentError} when the server refuses, for example with the code `VOLUME_IN_USE`. A creation that fails
   * or is aborted at any point leaves no sandbox.
   */
  static async create(options: SandboxOptions = {}): Promise<Sandbox> {
    const config = createConfig(options);
    const http = new HttpClient(resolveConfiguration(options));
    const origin = http.configuration.sandboxEndpoint(options.region ?? DEFAULT_REGION);
    const startMs = performance.now();
    const connected = await connectSandbox(http, {
      origin,
      path: "/api/v3/sandboxes/create",
      configHeader: config.header,
      signal: options.signal,
    });
    const { isSession, hasVolumes } = config;
    const sandbox = new Sandbox({ ...connected, http, origin, isDebug: options.debug ?? false, isSession, hasVolumes });
    try {
      reportShortened(options, connected, performance.now() - startMs);
      options.signal?.throwIfAborted();
      await orAbort(sandbox.#prepare(options, config.lateEnv), options.signal);
    } catch (error) {
      // What went wrong first is what the caller should hear of.
      await sandbox.#discard();
      throw error;
    }
    return sandbox;
  }

  /** Connects to a running sandbox. Throws {@linkcode ConnectionEstablishmentError} when it is not running any more. */
  static connect(id: string, options?: ConnectOptions): Promise<Sandbox>;
  static connect(options: ConnectOptions & { id: string }): Promise<Sandbox>;
  static async connect(
    idOrOptions: string | (ConnectOptions & { id: string }),
    more?: ConnectOptions,
  ): Promise<Sandbox> {
    const id = typeof idOrOptions === "string" ? idOrOptions : idOrOptions.id;
    const options = more ?? (typeof idOrOptions === "string" ? {} : idOrOptions);
    const { region } = parseSandboxId(id);
    const http = new HttpClient(resolveConfiguration(options));
    const origin = http.configuration.sandboxEndpoint(region);
    const connected = await connectSandbox(http, {
      origin,
      path: path`/api/v3/sandbox/${id}/connect`,
      signal: options.signal,
    });
    const isDebug = options.debug ?? false;
    return new Sandbox({ ...connected, http, origin, isDebug, isSession: false, hasVolumes: false });
  }

  /** The id, `sbx_<region>_<20 characters>`. */
  get id(): string {
    return this.#init.sandboxId;
  }

  /**
   * When it ends at the latest, whoever is connected; `null` when its creator's connection decides. It is what the server said when this
   * connection was made, or when it was last extended by it.
   */
  get stopAt(): Date | null {
    return this.#stopAt;
  }

  /** Resolves when the connection is closed, whoever closed it. */
  get closed(): Promise<void> {
    return this.#connection.closed;
  }

  /** How to log in over SSH, when the option `ssh` was given. */
  get ssh(): SshAccess | undefined {
    return this.#ssh;
  }

  /** The public address of the port that the option `port` named. */
  get url(): string | undefined {
    return this.#url;
  }

  /** Starts a program. See `sandbox.sh` for shell commands. */
  async spawn(command: string | URL, options: SpawnOptions = {}): Promise<ChildProcess> {
    const { args } = options;
    const init = await startProcess(this.#connection, options, (params) =>
      this.#connection.call("spawn", { ...params, command: toPath(command), args }),
    );
    return new ChildProcess(init);
  }

  /**
   * Runs a shell command. Values are put in as single words, whatever they contain; arrays as several words.
   *
   * ```ts
   * const name = "file with spaces.txt";
   * const text = await sandbox.sh`cat ${name} | wc -l`.text();
   * ```
   */
  readonly sh = (strings: TemplateStringsArray, ...values: unknown[]): SandboxCommandBuilder =>
    SandboxCommandBuilder.fromTemplate((command, options) => this.spawn(command, options), strings, values);

  /**
   * Opens a pseudo-terminal with a login shell, or with the command that is given.
   *
   * ```ts
   * await using terminal = await sandbox.terminal({ columns: 120, rows: 40 });
   * void terminal.output.pipeTo(Writable.toWeb(process.stdout));
   * ```
   */
  terminal(options: TerminalOptions = {}): Promise<Terminal> {
    return openTerminal((command, spawnOptions) => this.spawn(command, spawnOptions), options);
  }

  /** Sends an HTTP request from inside the sandbox, under its network rules. */
  fetch(url: string | URL, init?: RequestInit): Promise<Response> {
    return fetchInside(this.#connection, url, init);
  }

  /**
   * Closes the connection. A sandbox of the kind `"session"` ends by that; the call then resolves when its volumes are durable and free
   * for others. Throws {@linkcode NetworkError} when volumes were mounted and the server cannot be asked about them. A signal ends the wait, not
   * the closing.
   */
  close(options: CallOptions = {}): Promise<void> {
    this.#closing ??= this.#close();
    return orAbort(this.#closing, options.signal);
  }

  /** Ends the sandbox now, whatever its kind, and resolves when its volumes are durable and free. */
  async kill(options?: RequestOptions): Promise<void> {
    const { http, origin } = this.#init;
    const killed = killSandbox(http, origin, this.id, options).then(
      () => true,
      (error: unknown) => {
        // It has ended by itself meanwhile, which is what was wanted.
        if (error instanceof NotFoundError) return false;
        throw error;
      },
    );
    // What this breaks off is told so, without asking the server, unless its answer takes long.
    this.#connection.explainEnd(async (error) =>
      (await Promise.race([killed.catch(() => false), delay(EXPLAIN_MS, false, { ref: false })]))
        ? new ConnectionClosedError(error.code, error.reason, { stoppedAt: null, stopReason: "killed" })
        : await explainEnd(http, origin, this.id, error),
    );
    await killed;
    this.#endsWithConnection = false;
    const timer = setTimeout(() => void this.#connection.close(), KILL_CLOSE_MS);
    void this.closed.then(() => clearTimeout(timer));
    await orAbort(this.closed, options?.signal);
  }

  /**
   * Asks for the sandbox to live at least as long as given from now, at most 30 minutes, and returns when it will end at the earliest.
   * It never shortens a life. A sandbox of the kind `"session"` then outlives its connection until that time.
   */
  async extendTimeout(timeout: Duration, options?: RequestOptions): Promise<Date> {
    const { http, origin } = this.#init;
    const end = await extendSandbox(http, origin, this.id, timeout, options);
    // A session is only kept until then; its creator may stay longer.
    if (this.#stopAt !== null) this.#stopAt = end;
    this.#endsWithConnection = false;
    return end;
  }

  /**
   * Publishes an HTTP server in the sandbox and returns its address. **Everybody who knows the address can use it.** The target is a port
   * or the id of a Deno process. `client.previews` has private addresses, lists and revokes.
   */
  async exposeHttp(target: { port: number } | { pid: number }, options?: RequestOptions): Promise<string> {
    return await this.#expose("http", "port" in target ? { port: target.port } : { pid: target.pid }, options);
  }

  /** Opens the sandbox to SSH. The user name is the secret. `client.ssh` revokes it. */
  async exposeSsh(options?: RequestOptions): Promise<SshAccess> {
    const { http, origin } = this.#init;
    return toSshAccess(await reserveExposure(http, origin, this.id, "ssh", options));
  }

  /** Starts VS Code in the sandbox and publishes it. Throws `NotSupported` where the sandbox has neither code-server nor openvscode-server. */
  async exposeVscode(path_ = "/home/app", options: VsCodeOptions = {}): Promise<VsCode> {
    if (path_ === "/") throw new TypeError('Cannot open an editor on "/": name a directory below it');
    const token = this.#init.http.configuration.token;
    return await startVsCode(this.#connection, path_, token, options, (port) =>
      this.#expose("vscode", { port }, { signal: options.signal }),
    );
  }

  /** Deploying to an app platform is not part of Caisson. Always throws {@linkcode NotSupportedError}. */
  deploy(app: string): Promise<never> {
    return Promise.reject(notSupported(`Cannot deploy to the app ${JSON.stringify(app)}`));
  }

  /** The same as {@linkcode close}. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** @internal */
  [inspectSymbol](depth: number, options: object, inspect: unknown): string {
    const shown = { id: this.id, ...(this.#ssh && { ssh: this.#ssh }), ...(this.#url && { url: this.#url }) };
    return inspectAs("Sandbox", shown, depth, options, inspect);
  }

  async #close(): Promise<void> {
    await this.#connection.close();
    if (!this.#endsWithConnection) return;
    const { http, origin, hasVolumes } = this.#init;
    let damages: readonly string[];
    try {
      damages = await waitUntilStopped(http, origin, this.id);
    } catch (cause) {
      // Without volumes nothing outlives the sandbox, so there is nothing to be sure of.
      if (hasVolumes) throw new NetworkError(`Cannot tell whether ${this.id} has released its volumes`, { cause });
      return;
    }
    if (damages.length > 0) throw dataLost(this.id, damages);
  }

  /** Ends a sandbox that nobody will hear of, in bounded time. */
  async #discard(): Promise<void> {
    this.#connection.expectEnd();
    const { http, origin } = this.#init;
    const closed = this.#connection.close();
    // A session ends with its connection in any case; a sandbox with a duration would live on, which a failure here leaves to its time-out.
    await killSandbox(http, origin, this.id, { timeoutMs: DISCARD_MS, maxRetries: 0 }).catch(() => undefined);
    await closed;
  }

  async #prepare(options: SandboxOptions, lateEnv: Readonly<Record<string, string>>): Promise<void> {
    const { signal } = options;
    await Promise.all([
      ...Object.entries(lateEnv).map(([key, value]) => this.env.set(key, value, { signal })),
      options.ssh === true &&
        this.exposeSsh({ signal }).then((ssh) => {
          this.#ssh = ssh;
        }),
      options.port !== undefined &&
        this.exposeHttp({ port: options.port }, { signal }).then((url) => {
          this.#url = url;
        }),
    ]);
  }

  async #expose(
    kind: "http" | "vscode",
    target: { port: number } | { pid: number },
    options?: RequestOptions,
  ): Promise<string> {
    const { http, origin } = this.#init;
    const domain = String((await reserveExposure(http, origin, this.id, kind, options)).domain);
    try {
      await this.#connection.call("exposeHttp", { domain, ...target }, options);
    } catch (error) {
      // Who gives up waits for nothing more.
      if (options?.signal?.aborted !== true) await revokeExposure(http, origin, this.id, domain);
      throw error;
    }
    return `https://${domain}`;
  }
}
