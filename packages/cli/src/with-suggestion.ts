import type { Client } from "@caisson/sdk";
import { CliError } from "./cli-error.ts";
import { loadSdk } from "./context.ts";
import { EXIT } from "./exit-codes.ts";
import { closest } from "./suggest.ts";

type Kind = "volume" | "snapshot";

const LISTED = 100;

/**
 * Runs an action on a named object. When there is none of that name, the error names the one that was probably meant; when a sandbox
 * holds it, the error says how to end that one.
 */
export async function withSuggestion<T>(
  client: Client,
  kind: Kind,
  name: string,
  action: () => Promise<T>,
): Promise<T> {
  try {
    return await action();
  } catch (error) {
    const sdk = await loadSdk();
    if (!(error instanceof sdk.ApiError)) throw error;
    if (error.code === `${kind.toUpperCase()}_NOT_FOUND`) throw await notFound(client, kind, name);
    const holder = error.code === "VOLUME_IN_USE" ? (await client.volumes.get(name))?.attachedTo : undefined;
    if (!holder) throw error;
    throw new CliError(
      error.code,
      EXIT.conflict,
      error.message,
      `End the sandbox that holds it: caisson kill ${holder}`,
    );
  }
}

/** Returns what a lookup found, or throws the error with a suggestion. */
export async function requireFound<T>(client: Client, kind: Kind, name: string, lookup: Promise<T | null>): Promise<T> {
  const found = await lookup;
  if (found === null) throw await notFound(client, kind, name);
  return found;
}

async function notFound(client: Client, kind: Kind, name: string): Promise<CliError> {
  const resource = kind === "volume" ? client.volumes : client.snapshots;
  const { items } = await resource.list({ limit: LISTED });
  const meant = closest(
    name,
    items.map(({ slug }) => slug),
  );
  const hint =
    meant === undefined
      ? `List them: caisson ${kind}s list; deleted ones: caisson ${kind}s deleted.`
      : `Did you mean ${meant}?`;
  return new CliError(
    `${kind.toUpperCase()}_NOT_FOUND`,
    EXIT.notFound,
    `There is no ${kind} ${JSON.stringify(name)}`,
    hint,
  );
}
