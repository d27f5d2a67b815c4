import { type HttpClient, type RequestOptions, requireRecord } from "../core/http.ts";
import { requireArray } from "../core/page.ts";

/** A tenant of the server. Nothing is visible from one to another. */
export interface Organization {
  /** The id. */
  id: string;
  /** The name. */
  slug: string;
  /** When it was created. */
  createdAt: Date;
}

/** The server's organizations, as far as the token may see them. */
export class Organizations {
  readonly #http: HttpClient;

  /** @internal */
  constructor(http: HttpClient) {
    this.#http = http;
  }

  /** Lists the organizations: all for a token of the server's first one, else only the token's own. */
  async list(options?: RequestOptions): Promise<Organization[]> {
    const response = await this.#http.send({ method: "GET", path: "/api/v1/organizations", options });
    return requireArray(response.body).map(toOrganization);
  }

  /** Creates an organization. Throws {@linkcode PermissionDeniedError} unless the token belongs to the server's first one. */
  async create({ slug }: { slug: string }, options?: RequestOptions): Promise<Organization> {
    const response = await this.#http.send({ method: "POST", path: "/api/v1/organizations", body: { slug }, options });
    return toOrganization(response.body);
  }
}

function toOrganization(value: unknown): Organization {
  const { id, slug, created_at } = requireRecord(value);
  return { id: String(id), slug: String(slug), createdAt: new Date(String(created_at)) };
}
