import { type Request, readBody } from "../wire/http-server.ts";
import type { ByteStream } from "../wire/websocket.ts";
import { sharedVariables } from "./settings.ts";

/** All variables of a sandbox, which the kernel would hand to a program only in parts. */
const MAX_BODY_BYTES = 16 * 1024 * 1024;

/** What an agent would have been started with. */
export interface Configuration {
  /** The process's current directory, made when missing. */
  readonly directory: string;
  readonly variables: Readonly<Record<string, string>>;
}

/**
 * An agent that is started ahead, before it is known whose it is, with `CAISSON_AGENT_REHEARSE`: it serves nobody until `POST /configure` has brought its
 * configuration, as JSON: `directory`, and `variables` as an array of `NAME=value`. It takes one only. By then its root is the sandbox's.
 */
export async function readConfiguration(stream: ByteStream, request: Request): Promise<Configuration> {
  const body = JSON.parse(await readBody(stream, request, MAX_BODY_BYTES)) as {
    readonly directory: string;
    readonly variables: readonly string[];
  };
  const variables = body.variables.map((line) => {
    const sign = line.indexOf("=");
    return [line.slice(0, sign), line.slice(sign + 1)] as const;
  });
  return { directory: body.directory, variables: Object.fromEntries(variables) };
}

/** Makes this process what it would be had it been started with the configuration. */
export function takeOver({ directory, variables }: Configuration): void {
  const former = sharedVariables(Deno.env.toObject());
  const shared = sharedVariables(variables);
  for (const name of Object.keys(former)) if (shared[name] === undefined) Deno.env.delete(name);
  for (const [name, value] of Object.entries(shared)) if (former[name] !== value) Deno.env.set(name, value);
  try {
    Deno.chdir(directory);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    Deno.mkdirSync(directory, { recursive: true });
    Deno.chdir(directory);
  }
}
