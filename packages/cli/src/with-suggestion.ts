import type { Client, SandboxOptions } from "@caisson/sdk";
import { CliError } from "./cli-error.ts";
import { loadSdk } from "./context.ts";
import { EXIT } from "./exit-codes.ts";
import { closest } from "./suggest.ts";

type Kind = "volume" | "snapshot";

const LISTED = 100;

/**
 * Runs an action on a named object. When there is none of that name, the error says that it is of the other kind, with `otherKindHint` or how to
 * see it, or names the one that was probably meant; when a sandbox holds it, the error says how to end that one.
 */
export async function withSuggestion<T>(
  client: Client,
  kind: Kind,
  name: string,
  action: () => Promise<T>,
  otherKindHint?: string,
): Promise<T> {
  try {
    return await action();
  } catch (error) {
    const sdk = await loadSdk();
    if (!(error instanceof sdk.ApiError)) throw error;
    if (error.code === `${kind.toUpperCase()}_NOT_FOUND`) throw await notFound(client, kind, name, otherKindHint);
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

/** Creates a sandbox. When one of the volumes that it was to have is not there, the error says which name was probably meant. */
export async function withMountSuggestion<T>(
  client: Client,
  { volumes = {} }: SandboxOptions,
  action: () => Promise<T>,
): Promise<T> {
  try {
    return await action();
  } catch (error) {
    const sdk = await loadSdk();
    if (!(error instanceof sdk.ApiError) || error.code !== "VOLUME_NOT_FOUND") throw error;
    for (const mount of Object.values(volumes)) {
      const name = typeof mount === "string" ? mount : mount.volume;
      if ((await client.volumes.get(name)) !== null) continue;
      if ((await client.snapshots.get(name)) === null) throw await notFound(client, "volume", name);
      const message = `${JSON.stringify(name)} is a snapshot, and only volumes can be mounted`;
      const hint = `Make a volume from it: caisson volumes create NAME --capacity 10GB --region ord --from ${name}`;
      throw new CliError("VOLUME_NOT_FOUND", EXIT.notFound, message, `${hint}; or boot from it with --root.`);
    }
    throw error;
  }
}

/** Returns what a lookup found, or throws the error with a suggestion. */
export async function requireFound<T>(client: Client, kind: Kind, name: string, lookup: Promise<T | null>): Promise<T> {
  const found = await lookup;
  if (found === null) throw await notFound(client, kind, name);
  return found;
}

async function notFound(client: Client, kind: Kind, name: string, otherKindHint?: string): Promise<CliError> {
  const code = `${kind.toUpperCase()}_NOT_FOUND`;
  const other = kind === "volume" ? "snapshot" : "volume";
  // Before a name that is like it: a command that deletes must not be pointed at something else.
  if ((await (other === "volume" ? client.volumes : client.snapshots).get(name)) !== null) {
    const hint =
      otherKindHint ?? `See it: caisson ${other}s get ${name}; what can be done with it: caisson ${other}s --help.`;
    return new CliError(code, EXIT.notFound, `${JSON.stringify(name)} is a ${other}, not a ${kind}`, hint);
  }
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
  return new CliError(code, EXIT.notFound, `There is no ${kind} ${JSON.stringify(name)}`, hint);
}
