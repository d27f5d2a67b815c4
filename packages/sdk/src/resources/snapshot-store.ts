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
  /** How many are to be. */
  waiting: number;
  /** Of these, how many have failed at the last try. */
  failing: number;
  /** When the oldest of them was taken. */
  oldestWaitingAt: Date | null;
  /** When this run of the server brought a snapshot there last; `null`: it has not. */
  lastUploadAt: Date | null;
  /** Why the last try of this run failed. `null`: it did not. */
  lastError: string | null;
}

/** What a rotation of the installation's key has done. */
export interface KeyRotation {
  /** `finished`: a rotation that was cut off was finished, and no other key was made. `checked`: a dry run, which changed nothing. */
  outcome: "rotated" | "finished" | "checked";
  /** How many keys of organizations were wrapped anew, or opened. */
  organizationKeys: number;
  /** Where the former key lies, in the server's data directory. `null`: nothing was replaced. */
  formerKeyFile: string | null;
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
    const { url, id, problem, replicas, ...uploads } = requireRecord(response.body);
    const { waiting, failing, oldest_waiting_at, last_upload_at, last_error } = uploads;
    return {
      url: String(url),
      id: typeof id === "string" ? id : null,
      problem: typeof problem === "string" ? problem : null,
      replicas: Number(replicas),
      waiting: Number(waiting ?? 0),
      failing: Number(failing ?? 0),
      oldestWaitingAt: typeof oldest_waiting_at === "string" ? new Date(oldest_waiting_at) : null,
      lastUploadAt: typeof last_upload_at === "string" ? new Date(last_upload_at) : null,
      lastError: typeof last_error === "string" ? last_error : null,
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

  /**
   * Makes a new installation key, wraps the keys of all organizations by it, and uses it from then on; nothing is encrypted anew. A rotation that was cut off is finished instead. `dryRun`: only opens every key of the store with the one that there is (default:
   * `false`). The former key opens nothing afterwards, and the new one lies on the server's disk alone: keep it elsewhere at once, by `caisson keys export` on the server. Losing the disk before loses the store.
   */
  async rotateKey({ dryRun = false, ...options }: RequestOptions & { dryRun?: boolean } = {}): Promise<KeyRotation> {
    const path = "/api/v1/snapshot-store/rotate-key";
    const response = await this.#http.send({ method: "POST", path, body: dryRun ? { dry_run: true } : {}, options });
    const { outcome, organization_keys, former_key_file } = requireRecord(response.body);
    return {
      outcome: outcome as KeyRotation["outcome"],
      organizationKeys: Number(organization_keys),
      formerKeyFile: typeof former_key_file === "string" ? former_key_file : null,
    };
  }
}
