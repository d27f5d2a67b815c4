import { MAX_VARIABLE_BYTES, variableBytes } from "@caisson/protocol/variable";
import { errnoError } from "../calls/errors.ts";
import { type MethodTable, method } from "../calls/method.ts";
import { string } from "../calls/params.ts";

/** Throws `InvalidData` when the kernel could not hand this variable to a process. */
export function requireVariable(key: string, value: string): void {
  const shown = JSON.stringify(key.slice(0, 64));
  if (key === "" || /[=\0]/.test(key))
    throw errnoError("EINVAL", `set the environment variable ${shown}: the name is not valid`);
  if (value.includes("\0"))
    throw errnoError("EINVAL", `set the environment variable ${shown}: the value has a NUL character`);
  const bytes = variableBytes(key, value);
  if (bytes > MAX_VARIABLE_BYTES) {
    const reason = `it has ${bytes} bytes with its name, and the kernel hands at most ${MAX_VARIABLE_BYTES} to a program`;
    throw errnoError("E2BIG", `set the environment variable ${shown}: ${reason}. Write the value to a file instead`);
  }
}

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
    requireVariable(key, value);
    this.#variables.set(key, value);
  }

  delete(key: string): void {
    this.#variables.delete(key);
  }

  toObject(): Record<string, string> {
    return Object.fromEntries(this.#variables);
  }
}

export const environmentMethods = {
  envGet: method({ key: string }, ({ key }, { sandbox }) => sandbox.environment.get(key)),
  envSet: method({ key: string, value: string }, ({ key, value }, { sandbox }) => sandbox.environment.set(key, value)),
  envToObject: method({}, (_params, { sandbox }) => sandbox.environment.toObject()),
  envDelete: method({ key: string }, ({ key }, { sandbox }) => sandbox.environment.delete(key)),
} satisfies MethodTable;
