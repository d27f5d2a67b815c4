import { NotSupportedError } from "../core/errors.ts";
import type { Connection } from "../internal/connection.ts";
import { toPath } from "../internal/path.ts";
import { DenoProcess, DenoRepl } from "./deno-process.ts";
import { type SpawnOptions, startProcess } from "./spawn.ts";

/** The language of code, as the extension of its file would say. */
export type CodeExtension = "js" | "cjs" | "mjs" | "ts" | "cts" | "mts" | "jsx" | "tsx";

/** Options of `sandbox.deno.run()`: a file or code, and how to run it. */
export type DenoRunOptions = (
  | {
      /** The module to run. Relative paths start from `cwd` or the sandbox's default directory. */
      entrypoint: string | URL;
      /** Restart on changes of the program's modules, and of these files as well. Default: false. */
      watch?: boolean | string[];
    }
  | {
      /** The code to run. */
      code: string;
      /** The language of the code. Default: `"ts"`. */
      extension?: CodeExtension;
    }
) & {
  /** What the program finds in `Deno.args`. */
  scriptArgs?: string[];
} & Omit<SpawnOptions, "args">;

/** Options of `sandbox.deno.repl()`. */
export type DenoReplOptions = {
  /** What the code finds in `Deno.args`. */
  scriptArgs?: string[];
} & Omit<SpawnOptions, "args">;

/** Runs JavaScript and TypeScript on Deno in the sandbox, with all permissions. */
export class SandboxDeno {
  readonly #connection: Connection;

  /** @internal */
  constructor(connection: Connection) {
    this.#connection = connection;
  }

  /** Starts a program from a file or from code. */
  async run(options: DenoRunOptions): Promise<DenoProcess> {
    const { scriptArgs } = options;
    const program =
      "entrypoint" in options
        ? { entrypoint: toPath(options.entrypoint), watch: options.watch }
        : { code: options.code, extension: options.extension ?? "ts" };
    const init = await startProcess(this.#connection, options, (params) =>
      this.#connection.call("spawnDeno", { ...params, scriptArgs, ...program }),
    );
    const process = new DenoProcess(init);
    const { watcherId } = init.result;
    if (watcherId !== null) {
      this.#connection.onRestart(watcherId, () => process.dispatchEvent(new Event("restart")));
      const forget = (): void => this.#connection.offRestart(watcherId);
      process.status.then(forget, forget);
    }
    return process;
  }

  /**
   * Evaluates code in a REPL of its own and returns the value of the last expression, which must be expressible as JSON.
   *
   * ```ts
   * const sum = await sandbox.deno.eval("const a = 1; a + 2"); // 3
   * ```
   */
  async eval<T = unknown>(code: string, options: { signal?: AbortSignal } = {}): Promise<T> {
    const repl = await this.repl(options);
    try {
      return await repl.eval<T>(code, options);
    } finally {
      await repl.close();
    }
  }

  /** Starts a REPL, which keeps its variables between evaluations. */
  async repl(options: DenoReplOptions = {}): Promise<DenoRepl> {
    const { scriptArgs } = options;
    const init = await startProcess(this.#connection, options, (params) =>
      this.#connection.call("spawnDenoRepl", { ...params, scriptArgs }),
    );
    return new DenoRepl(init);
  }

  /** Deploying to an app platform is not part of Caisson. Always throws {@linkcode NotSupportedError}. */
  deploy(app: string): Promise<never> {
    return Promise.reject(notSupported(`Cannot deploy to the app ${JSON.stringify(app)}`));
  }
}

/** The error for the parts of the app platform, which Caisson does not have. */
export function notSupported(action: string): NotSupportedError {
  return new NotSupportedError(
    501,
    "NOT_SUPPORTED",
    `${action}: Caisson has volumes, snapshots and sandboxes, but no apps`,
  );
}
