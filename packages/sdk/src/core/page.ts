import type { HttpClient, RequestOptions } from "./http.ts";

/** The place in a listing where a page begins. Opaque. */
export type Cursor = string;

/** Options of all listings. */
export interface ListOptions {
  /** Where to start: the `nextCursor` of another page. */
  cursor?: Cursor;
  /** Items per page, 1 to 100. Default: 30. */
  limit?: number;
}

/** One page of a listing. Iterating it with `for await` yields the items of this page and of all that follow. */
export interface PaginatedList<T> {
  /** The items of this page. */
  readonly items: T[];
  /** Whether another page follows. */
  readonly hasMore: boolean;
  /** The cursor of the next page, or `null` on the last. */
  readonly nextCursor: Cursor | null;
  /** Fetches the next page; `null` after the last. */
  getNextPage(options?: RequestOptions): Promise<PaginatedList<T> | null>;
  /** Yields the items of this page and of all following ones, fetching each page when it is reached. */
  [Symbol.asyncIterator](): AsyncIterableIterator<T>;
}

/** What to list and how to read one item. */
export interface Listing<T> {
  readonly path: string;
  readonly query: Readonly<Record<string, string | undefined>>;
  readonly decode: (item: unknown) => T;
}

/** Fetches one page. */
export async function fetchPage<T>(
  http: HttpClient,
  listing: Listing<T>,
  position: ListOptions,
  options: RequestOptions | undefined,
): Promise<PaginatedList<T>> {
  const { cursor, limit } = position;
  const query = { ...listing.query, cursor, limit: limit === undefined ? undefined : String(limit) };
  const response = await http.send({ method: "GET", path: listing.path, query, options });
  const items = requireArray(response.body).map(listing.decode);
  return new Page(http, listing, limit, items, nextCursor(response.headers.get("link")), options);
}

/** The filters of a listing by label, in the form that the API expects. */
export function labelQuery(labels: Readonly<Record<string, string>> | undefined): Record<string, string> {
  return Object.fromEntries(Object.entries(labels ?? {}).map(([key, value]) => [`labels[${key}]`, value]));
}

/** Returns the value when it is an array. Anything else is a fault of the server, which is not passed over in silence. */
export function requireArray(value: unknown): unknown[] {
  if (Array.isArray(value)) return value;
  throw new TypeError(`The server sent ${JSON.stringify(value)?.slice(0, 80)} where an array was expected`);
}

class Page<T> implements PaginatedList<T> {
  readonly items: T[];
  readonly nextCursor: Cursor | null;
  readonly #http: HttpClient;
  readonly #listing: Listing<T>;
  readonly #limit: number | undefined;
  readonly #options: RequestOptions | undefined;

  constructor(
    http: HttpClient,
    listing: Listing<T>,
    limit: number | undefined,
    items: T[],
    cursor: Cursor | null,
    options: RequestOptions | undefined,
  ) {
    this.#http = http;
    this.#listing = listing;
    this.#limit = limit;
    this.items = items;
    this.nextCursor = cursor;
    this.#options = options;
  }

  get hasMore(): boolean {
    return this.nextCursor !== null;
  }

  async getNextPage(options: RequestOptions | undefined = this.#options): Promise<PaginatedList<T> | null> {
    if (this.nextCursor === null) return null;
    const position = { cursor: this.nextCursor, ...(this.#limit === undefined ? {} : { limit: this.#limit }) };
    return await fetchPage(this.#http, this.#listing, position, options);
  }

  async *[Symbol.asyncIterator](): AsyncIterableIterator<T> {
    for (let page: PaginatedList<T> | null = this; page !== null; page = await page.getNextPage()) yield* page.items;
  }
}

/** The `cursor` parameter of the link with the relation `next` (RFC 8288), or `null`. */
export function nextCursor(link: string | null): Cursor | null {
  for (const match of (link ?? "").matchAll(/<([^>]*)>([^<]*)/g)) {
    const [, target = "", parameters = ""] = match;
    if (/;\s*rel="?next"?/.test(parameters)) return new URL(target, "http://localhost").searchParams.get("cursor");
  }
  return null;
}
