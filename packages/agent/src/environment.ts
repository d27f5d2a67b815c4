import { errnoError } from "./errors.ts";
import { type MethodTable, method } from "./method.ts";
import { string } from "./params.ts";

/** The variables of the sandbox: one set, shared by all connections, inherited by every process started afterwards (protocol.md 4.8). */
export class Environment {
  readonly #variables: Map<string, string>;

  constructor(initial: Readonly<Record<string, string>>) {
    this.#variables = new Map(Object.entries(initial));
  }

  get(key: string): string | null {
    return this.#variables.get(key) ?? null;
  }

  set(key: string, value: string): void {
    if (key === "" || /[=\0]/.test(key))
      throw errnoError("EINVAL", `set environment variable ${JSON.stringify(key)}: the name is not valid`);
    if (value.includes("\0"))
      throw errnoError("EINVAL", `set environment variable ${JSON.stringify(key)}: the value has a NUL character`);
    this.#variables.set(key, value);
  }

  delete(key: string): void {
    this.#variables.delete(key);
  }

  toObject(): Record<string, string> {
    return Object.fromEntries(this.#variables);
  }
}

export const environmentMethods: MethodTable = {
  envGet: method({ key: string }, ({ key }, { sandbox }) => sandbox.environment.get(key)),
  envSet: method({ key: string, value: string }, ({ key, value }, { sandbox }) => sandbox.environment.set(key, value)),
  envToObject: method({}, (_params, { sandbox }) => sandbox.environment.toObject()),
  envDelete: method({ key: string }, ({ key }, { sandbox }) => sandbox.environment.delete(key)),
};
