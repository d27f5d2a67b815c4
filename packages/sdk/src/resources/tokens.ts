import { type HttpClient, path, type RequestOptions, requireRecord } from "../core/http.ts";
import { requireArray } from "../core/page.ts";

/** An access token, without its text. */
export interface Token {
  /** The id, by which it can be revoked. */
  id: string;
  /** What it is for. */
  name: string;
  /** The organization that it belongs to. */
  organizationId: string;
  /** When it was created. */
  createdAt: Date;
}

/** A token that was created just now. */
export interface CreatedToken extends Token {
  /** The text. The server keeps no copy of it. */
  token: string;
}

/** What to create. */
export interface TokenInit {
  /** What it is for. */
  name: string;
  /** Id or slug of the organization. Default: this client's own; others need a token of the server's first organization. */
  organization?: string;
}

/** The organization's access tokens. */
export class Tokens {
  readonly #http: HttpClient;

  /** @internal */
  constructor(http: HttpClient) {
    this.#http = http;
  }

  /** Lists the tokens. */
  async list(options?: RequestOptions): Promise<Token[]> {
    const response = await this.#http.send({ method: "GET", path: "/api/v1/tokens", options });
    return requireArray(response.body).map(toToken);
  }

  /** Creates a token. Its text is returned here and never again. */
  async create({ name, organization }: TokenInit, options?: RequestOptions): Promise<CreatedToken> {
    const body = { name, organization };
    const response = await this.#http.send({ method: "POST", path: "/api/v1/tokens", body, options });
    return { ...toToken(response.body), token: String(requireRecord(response.body).token) };
  }

  /**
   * Puts a new token in the place of one, by default of the one that this client uses, and returns it with its text. The old one is refused from then
   * on, and the connections that it opened end. Throws {@linkcode NotFoundError} when there is none with this id.
   */
  async rotate(id = "self", options?: RequestOptions): Promise<CreatedToken> {
    const response = await this.#http.send({ method: "POST", path: path`/api/v1/tokens/${id}/rotate`, options });
    return { ...toToken(response.body), token: String(requireRecord(response.body).token) };
  }

  /** Revokes a token at once, and ends the connections that it opened. Throws {@linkcode NotFoundError} when there is none with this id. */
  async delete(id: string, options?: RequestOptions): Promise<void> {
    await this.#http.send({ method: "DELETE", path: path`/api/v1/tokens/${id}`, options });
  }
}

function toToken(value: unknown): Token {
  const { id, name, organization_id, created_at } = requireRecord(value);
  return {
    id: String(id),
    name: String(name),
    organizationId: String(organization_id),
    createdAt: new Date(String(created_at)),
  };
}
