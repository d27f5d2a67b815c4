import { type HttpClient, path, type RequestOptions, requireRecord } from "../core/http.ts";
import { requireArray } from "../core/page.ts";

/** A public key that may log in to every sandbox of the organization by SSH. */
export interface SshKey {
  /** The id, by which it can be removed. */
  id: string;
  /** What it is called. */
  name: string;
  /** For example `ssh-ed25519`. */
  type: string;
  /** Type and key, as in a `.pub` file. */
  publicKey: string;
  /** As `ssh-keygen -l` shows it. */
  fingerprint: string;
  /** When it was added. */
  createdAt: Date;
}

/** What to add. */
export interface SshKeyInit {
  /** A line of a `.pub` file. */
  publicKey: string;
  /** What to call it. Default: the comment in the line. */
  name?: string;
}

/** Public keys that may log in to the organization's sandboxes. */
export class SshKeys {
  readonly #http: HttpClient;

  /** @internal */
  constructor(http: HttpClient) {
    this.#http = http;
  }

  /** Lists the keys, newest first. */
  async list(options?: RequestOptions): Promise<SshKey[]> {
    const response = await this.#http.send({ method: "GET", path: "/api/v1/ssh-keys", options });
    return requireArray(response.body).map(toSshKey);
  }

  /** Lets a key log in to every sandbox of the organization, by the sandbox's id as the user name. */
  async add({ publicKey, name }: SshKeyInit, options?: RequestOptions): Promise<SshKey> {
    const body = { public_key: publicKey, name };
    return toSshKey((await this.#http.send({ method: "POST", path: "/api/v1/ssh-keys", body, options })).body);
  }

  /** Removes a key at once, and ends the connections by it. Throws {@linkcode NotFoundError} when there is none with this id. */
  async remove(id: string, options?: RequestOptions): Promise<void> {
    await this.#http.send({ method: "DELETE", path: path`/api/v1/ssh-keys/${id}`, options });
  }
}

function toSshKey(value: unknown): SshKey {
  const { id, name, type, public_key, fingerprint, created_at } = requireRecord(value);
  return {
    id: String(id),
    name: String(name),
    type: String(type),
    publicKey: String(public_key),
    fingerprint: String(fingerprint),
    createdAt: new Date(String(created_at)),
  };
}
