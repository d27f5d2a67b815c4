import type { CallOptions, Connection } from "../internal/connection.ts";

/** The sandbox's environment: one for all its clients, inherited by every process that is started later. */
export class SandboxEnv {
  readonly #connection: Connection;

  /** @internal */
  constructor(connection: Connection) {
    this.#connection = connection;
  }

  /** Returns the value of a variable, or `undefined` when it is not set. */
  async get(key: string, options?: CallOptions): Promise<string | undefined> {
    return (await this.#connection.call("envGet", { key }, options)) ?? undefined;
  }

  /** Sets a variable. */
  async set(key: string, value: string, options?: CallOptions): Promise<void> {
    await this.#connection.call("envSet", { key, value }, options);
  }

  /** Returns all variables. */
  async toObject(options?: CallOptions): Promise<Record<string, string>> {
    return { ...(await this.#connection.call("envToObject", {}, options)) };
  }

  /** Removes a variable; without effect when it is not set. */
  async delete(key: string, options?: CallOptions): Promise<void> {
    await this.#connection.call("envDelete", { key }, options);
  }
}
