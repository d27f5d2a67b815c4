import {
  MAX_ENVIRONMENT_BYTES,
  MAX_VARIABLE_BYTES,
  TEXT_OVERHEAD_BYTES,
  variableBytes,
} from "@caisson/protocol/variable";
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
  /** What they take of the kernel's room for a program's variables and arguments. */
  #takenBytes: number;

  constructor(initial: Readonly<Record<string, string>>) {
    this.#variables = new Map(Object.entries(initial));
    this.#takenBytes = environmentBytes(initial);
  }

  get(key: string): string | null {
    return this.#variables.get(key) ?? null;
  }

  set(key: string, value: string): void {
    requireVariable(key, value);
    const addedBytes = takenBytes(key, value) - this.#takenBy(key);
    const takenTogether = this.#takenBytes + addedBytes;
    // What makes them smaller is right also where those of the start were too large.
    if (addedBytes > 0 && takenTogether > MAX_ENVIRONMENT_BYTES) {
      const reason = `the sandbox's variables would take ${takenTogether} bytes together, at most ${MAX_ENVIRONMENT_BYTES} are possible`;
      const shown = JSON.stringify(key.slice(0, 64));
      const advice = "Write large values to files, or delete variables that nobody needs";
      throw errnoError("E2BIG", `set the environment variable ${shown}: ${reason}. ${advice}`);
    }
    this.#variables.set(key, value);
    this.#takenBytes = takenTogether;
  }

  delete(key: string): void {
    this.#takenBytes -= this.#takenBy(key);
    this.#variables.delete(key);
  }

  toObject(): Record<string, string> {
    return Object.fromEntries(this.#variables);
  }

  #takenBy(key: string): number {
    const value = this.#variables.get(key);
    return value === undefined ? 0 : takenBytes(key, value);
  }
}

/** What variables take of the kernel's room for a program's variables and arguments. */
export function environmentBytes(variables: Readonly<Record<string, string>>): number {
  return Object.entries(variables).reduce((sum, [key, value]) => sum + takenBytes(key, value), 0);
}

function takenBytes(key: string, value: string): number {
  return variableBytes(key, value) + TEXT_OVERHEAD_BYTES;
}

export const environmentMethods = {
  envGet: method({ key: string }, ({ key }, { sandbox }) => sandbox.environment.get(key)),
  envSet: method({ key: string, value: string }, ({ key, value }, { sandbox }) => sandbox.environment.set(key, value)),
  envToObject: method({}, (_params, { sandbox }) => sandbox.environment.toObject()),
  envDelete: method({ key: string }, ({ key }, { sandbox }) => sandbox.environment.delete(key)),
} satisfies MethodTable;
