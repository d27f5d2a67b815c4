import type { CallOptions, Connection } from "../internal/connection.ts";
import { untilClosed } from "../internal/until-closed.ts";
import { ChildProcess, type ChildProcessInit } from "./child-process.ts";
import { fetchInside, type RequestInit } from "./fetch.ts";

/** A Deno program in the sandbox, made by `sandbox.deno.run()`. With `watch` it emits the event `restart` after each restart. */
export class DenoProcess extends ChildProcess {
  /** Resolves to `true` when the program serves HTTP (`Deno.serve` or `node:http`), and to `false` when it ends without. */
  readonly httpReady: Promise<boolean>;
  readonly #connection: Connection;

  /** @internal */
  constructor(init: ChildProcessInit) {
    super(init);
    this.#connection = init.connection;
    this.httpReady = init.connection.call("denoHttpWait", { pid: this.pid });
    this.httpReady.catch(() => undefined);
  }

  /** Sends a request to the program's HTTP server. The host of the URL plays no part in finding it. */
  fetch(url: string | URL, init?: RequestInit): Promise<Response> {
    return fetchInside(this.#connection, url, init, this.pid);
  }
}

/** A REPL in the sandbox, made by `sandbox.deno.repl()`. */
export class DenoRepl extends DenoProcess {
  readonly #connection: Connection;

  /** @internal */
  constructor(init: ChildProcessInit) {
    super(init);
    this.#connection = init.connection;
  }

  /** Evaluates code and returns the value of its last expression as JSON. What it throws is thrown here. */
  async eval<T = unknown>(code: string, options?: CallOptions): Promise<T> {
    return (await this.#connection.call("denoReplEval", { pid: this.pid, code }, options)) as T;
  }

  /** Calls a function by its name in the REPL, or by its text, with arguments that are expressible as JSON. */
  async call<T = unknown>(fn: string, ...args: unknown[]): Promise<T> {
    return (await this.#connection.call("denoReplCall", { pid: this.pid, fn, args })) as T;
  }

  /** Ends the REPL. One that has ended already is left alone. */
  async close(options?: CallOptions): Promise<void> {
    try {
      await this.#connection.call("denoReplClose", { pid: this.pid }, options);
    } catch (error) {
      if (!(error instanceof Error && "code" in error && error.code === "ENOENT")) throw error;
    }
  }

  /** Ends the REPL and waits until its process has ended. */
  override async [Symbol.asyncDispose](): Promise<void> {
    await untilClosed(() => this.close());
    await super[Symbol.asyncDispose]();
  }
}
