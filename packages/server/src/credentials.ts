import { chmod, open, readFile, rename } from "node:fs/promises";
import { join } from "node:path";
import type { Store } from "@caisson/database";
import { syncDirectory } from "@caisson/linux";
import { ADMIN_ORGANIZATION } from "./app/access/administrator.ts";
import { addOrganization } from "./app/access/organization-create.ts";
import { createOrganizationToken } from "./app/access/token-create.ts";

/** What `caisson env` hands to clients on this machine. Readable by the server's user only. */
export interface Credentials {
  readonly organization: string;
  readonly token: string;
  /** Origin of the running server, or of the last one. */
  readonly endpoint: string;
}

/** Writes the endpoint for `caisson env`, and on the first start makes the organization and its token. */
export async function ensureCredentials(store: Store, dataDirectory: string, endpoint: string): Promise<Credentials> {
  const path = join(dataDirectory, "credentials.json");
  const existing = await readCredentials(path);
  const organization =
    (await store.organizations.get(ADMIN_ORGANIZATION)) ?? (await addOrganization({ store }, null, ADMIN_ORGANIZATION));
  const token = existing?.token ?? (await createOrganizationToken({ store }, null, organization.id, "local")).text;
  const credentials: Credentials = { organization: organization.slug, token, endpoint };
  const file = await open(`${path}.new`, "w", 0o600);
  try {
    await file.writeFile(`${JSON.stringify(credentials, null, 2)}\n`);
    await file.sync();
  } finally {
    await file.close();
  }
  await chmod(`${path}.new`, 0o600);
  await rename(`${path}.new`, path);
  await syncDirectory(dataDirectory);
  return credentials;
}

async function readCredentials(path: string): Promise<Credentials | null> {
  try {
    return JSON.parse(await readFile(path, "utf8")) as Credentials;
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return null;
    throw error;
  }
}
