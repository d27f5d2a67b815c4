import { type HttpClient, type RequestOptions, requireRecord } from "../core/http.ts";

/** How the server's snapshot store stands. */
export interface SnapshotStoreStatus {
  /** Where it is, as the server's settings say. */
  url: string;
  /** Which store has the snapshots that are replicated. `null`: none is known yet. */
  id: string | null;
  /** Why it cannot be used, and what to do. `null`: it can. */
  problem: string | null;
  /** How many snapshots of all organizations are replicated. */
  replicas: number;
}

/** The server's snapshot store: for tokens of the server's first organization. */
export class SnapshotStore {
  readonly #http: HttpClient;

  /** @internal */
  constructor(http: HttpClient) {
    this.#http = http;
  }

  /** Asks the store whether it can be used. Throws {@linkcode PermissionDeniedError} for other organizations' tokens, and {@linkcode NotSupportedError} where there is none. */
  async get(options?: RequestOptions): Promise<SnapshotStoreStatus> {
    const response = await this.#http.send({ method: "GET", path: "/api/v1/snapshot-store", options });
    const { url, id, problem, replicas } = requireRecord(response.body);
    return {
      url: String(url),
      id: typeof id === "string" ? id : null,
      problem: typeof problem === "string" ? problem : null,
      replicas: Number(replicas),
    };
  }

  /**
   * Takes the store of the server's settings, as it is, for the installation's from now on: what is replicated is uploaded again, and no other server may use it. Resolves to the number of those snapshots. `newKey`: makes a new
   * installation key in place of one that is lost for good (default: `false`).
   */
  async accept({ newKey = false, ...options }: RequestOptions & { newKey?: boolean } = {}): Promise<number> {
    const path = "/api/v1/snapshot-store/accept";
    const response = await this.#http.send({ method: "POST", path, body: newKey ? { new_key: true } : {}, options });
    return Number(requireRecord(response.body).waiting);
  }
}
