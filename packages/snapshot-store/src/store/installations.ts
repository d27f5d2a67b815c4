import { createHash } from "node:crypto";
import type { ObjectStore } from "@caisson/objects";

const OBJECT_BYTES_MAX = 16_384;
/** Of how many keys that were replaced a store can tell so. */
const FORMER_MAX = 256;

/** What a store shows of an installation's key: the last part of `installations/ID`. It tells nothing of the key. */
export function installationIdOf(installationKey: Buffer): string {
  return createHash("sha256").update("caisson installation\n").update(installationKey).digest("hex").slice(0, 16);
}

/** The object `installations/ID` of a key, and of those in whose place it came, the latest first. */
export async function putInstallation(
  objects: ObjectStore,
  id: string,
  former: readonly string[],
  signal: AbortSignal,
): Promise<void> {
  const content = { version: 1, ...(former.length === 0 ? {} : { former: former.slice(0, FORMER_MAX) }) };
  await objects.put(`installations/${id}`, Buffer.from(JSON.stringify(content)), signal);
}

/** The keys in whose place this one came, the latest first; none where the object is missing or damaged. */
export async function formerInstallations(
  objects: ObjectStore,
  id: string,
  signal?: AbortSignal,
): Promise<readonly string[]> {
  const bytes = await objects.get(`installations/${id}`, OBJECT_BYTES_MAX, signal);
  try {
    const { former } = JSON.parse(bytes?.toString() ?? "{}") as { readonly former?: unknown };
    return Array.isArray(former) ? former.filter((each) => typeof each === "string") : [];
  } catch {
    // What is damaged tells of nothing.
    return [];
  }
}

/** All that the store was made for: one, but while its key is replaced. The lowest first; what else somebody has put there is left alone. */
export async function listInstallations(objects: ObjectStore, signal?: AbortSignal): Promise<readonly string[]> {
  const keys = await Array.fromAsync(objects.list("installations/", signal), ({ key }) => key.split("/")[1] ?? "");
  return keys.filter((id) => /^[0-9a-f]{16}$/.test(id)).sort();
}

/** Whether the store has a key that came in the place of this one. */
export async function isReplaced(objects: ObjectStore, id: string, signal?: AbortSignal): Promise<boolean> {
  for (const other of await listInstallations(objects, signal))
    if ((await formerInstallations(objects, other, signal)).includes(id)) return true;
  return false;
}
