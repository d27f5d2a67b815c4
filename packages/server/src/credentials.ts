import { open, readFile, rename } from "node:fs/promises";
import { join } from "node:path";
import type { Store } from "@caisson/database";
import { syncDirectory } from "@caisson/linux";
import { CaissonError } from "@caisson/model";
import { Type } from "typebox";
import { Value } from "typebox/value";
import { ADMIN_ORGANIZATION } from "./app/access/administrator.ts";
import { addOrganization } from "./app/access/organization-create.ts";
import { createOrganizationToken, newTokenText } from "./app/access/token-create.ts";
import { hashToken } from "./app/access/token-hash.ts";

const CredentialsSchema = Type.Object({ token: Type.String({ minLength: 1 }) });

/** What `caisson env` hands to clients on this machine. Readable by the server's user only. */
export interface Credentials {
  readonly organization: string;
  readonly token: string;
  /** Origin of the running server, or of the last one. */
  readonly endpoint: string;
}

/**
 * Writes the endpoint for `caisson env`, and on the first start makes the organization and its token.
 *
 * The new file is the intent, with the token's text; then the token is made; the rename is the commit. A start that a crash cut off is gone on with
 * by the next one with the same token, so none is left that nobody has. Throws `INVALID_CONFIG` that names a file which cannot be read.
 */
export async function ensureCredentials(store: Store, dataDirectory: string, endpoint: string): Promise<Credentials> {
  const path = join(dataDirectory, "credentials.json");
  const existing = await readCredentials(path);
  const organization =
    (await store.organizations.get(ADMIN_ORGANIZATION)) ?? (await addOrganization({ store }, null, ADMIN_ORGANIZATION));
  // One that is cut off was not written to its end, and no token was made for it.
  const intended = existing ?? (await readCredentials(`${path}.new`).catch(() => null));
  const credentials: Credentials = {
    organization: organization.slug,
    token: intended?.token ?? newTokenText(),
    endpoint,
  };
  await writeDurably(`${path}.new`, `${JSON.stringify(credentials, null, 2)}\n`);
  await syncDirectory(dataDirectory);
  if (existing === null && (await store.organizations.findToken(hashToken(credentials.token))) === null)
    await createOrganizationToken({ store }, null, organization.id, "local", credentials.token);
  await rename(`${path}.new`, path);
  await syncDirectory(dataDirectory);
  return credentials;
}

async function writeDurably(path: string, text: string): Promise<void> {
  await using file = await open(path, "w", 0o600);
  await file.chmod(0o600);
  await file.writeFile(text);
  await file.sync();
}

async function readCredentials(path: string): Promise<Pick<Credentials, "token"> | null> {
  try {
    const value: unknown = JSON.parse(await readFile(path, "utf8"));
    if (Value.Check(CredentialsSchema, value)) return value;
    throw new Error("it holds no token");
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return null;
    throw new CaissonError(
      "INVALID_CONFIG",
      `Cannot read the credentials in ${path}: ${error instanceof Error ? error.message : String(error)}. ` +
        "Restore the file, or remove it: the server then makes a new token and writes it there",
      { cause: error },
    );
  }
}
