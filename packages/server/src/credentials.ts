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
 * The file in the data directory by which clients on this machine find the server and its token. A new file is the intent, with the token's text;
 * then the token is made; the rename is the commit. What a crash cut off is gone on with by the next start with the same token, so none is left
 * that nobody has.
 */
export class CredentialsFile {
  readonly #store: Store;
  readonly #directory: string;
  readonly #path: string;
  /** One change at a time. */
  #work: Promise<unknown> = Promise.resolve();

  constructor(store: Store, dataDirectory: string) {
    this.#store = store;
    this.#directory = dataDirectory;
    this.#path = join(dataDirectory, "credentials.json");
  }

  /**
   * Writes the endpoint for `caisson env`. The first start makes the organization and its token, and so does one that finds the token revoked, or the
   * file gone: whoever has the data directory is never locked out. Throws `INVALID_CONFIG` that names a file which cannot be read.
   */
  ensure(endpoint: string): Promise<{ readonly credentials: Credentials; readonly isTokenReplaced: boolean }> {
    return this.#afterOthers(async () => {
      const { organizations } = this.#store;
      const existing = await readCredentials(this.#path);
      const organization =
        (await organizations.get(ADMIN_ORGANIZATION)) ??
        (await addOrganization({ store: this.#store }, null, ADMIN_ORGANIZATION));
      // One that is cut off was not written to its end, and no token was made for it.
      const intended = await readCredentials(`${this.#path}.new`).catch(() => null);
      const token = await this.#usable(existing?.token, intended?.token);
      const credentials = { organization: organization.slug, token, endpoint };
      await this.#writeIntent(credentials);
      if ((await organizations.findToken(hashToken(token))) === null)
        await createOrganizationToken({ store: this.#store }, null, organization.id, "local", token);
      await this.#commit();
      return { credentials, isTokenReplaced: existing !== null && existing.token !== token };
    });
  }

  /** Runs what takes a token's text out of use and another one into it; if the file holds the first, it holds the other afterwards. */
  replaceToken<T>(tokenId: string, text: string, commit: () => Promise<T>): Promise<T> {
    return this.#afterOthers(async () => {
      const existing = await readCredentials(this.#path).catch(() => null);
      const found = existing === null ? null : await this.#store.organizations.findToken(hashToken(existing.token));
      if (existing === null || found?.token.id !== tokenId) return commit();
      await this.#writeIntent({ ...existing, token: text });
      const result = await commit();
      await this.#commit();
      return result;
    });
  }

  /** The first that is valid; else the intended one, which no token was made for yet, or a new one. */
  async #usable(existing: string | undefined, intended: string | undefined): Promise<string> {
    const { organizations } = this.#store;
    for (const text of [existing, intended])
      if (text !== undefined && (await organizations.findToken(hashToken(text))) !== null) return text;
    const isFree = intended !== undefined && !(await organizations.isTokenKnown(hashToken(intended)));
    return isFree ? intended : newTokenText();
  }

  async #writeIntent(credentials: object): Promise<void> {
    await writeDurably(`${this.#path}.new`, `${JSON.stringify(credentials, null, 2)}\n`);
    await syncDirectory(this.#directory);
  }

  async #commit(): Promise<void> {
    await rename(`${this.#path}.new`, this.#path);
    await syncDirectory(this.#directory);
  }

  #afterOthers<T>(task: () => Promise<T>): Promise<T> {
    const done = this.#work.then(task, task);
    this.#work = done.catch(() => undefined);
    return done;
  }
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
