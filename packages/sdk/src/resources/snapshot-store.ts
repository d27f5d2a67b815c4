import { Buffer } from "node:buffer";
import { createHmac } from "node:crypto";
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
  /** A rotation of the installation's key that is not at its end. `null`: none is under way. */
  keyRotation: KeyRotationStatus | null;
}

/** How far a rotation of the installation's key is. */
export interface KeyRotationStatus {
  /** `waiting`: the former key is in use, and the new one opens everything as well. `finishing`: the new one is in use, and what another one opens is to be taken away. Both end by {@linkcode SnapshotStore.finishKeyRotation}. */
  stage: "waiting" | "finishing";
  /** Since when it is at this stage. */
  since: Date;
  /** What keeps it from being finished on this server, and what to do. `null`: nothing. */
  problem: string | null;
}

/** What a rotation of the installation's key has done. */
export interface KeyRotation {
  /** `waiting`: both keys open everything, until the rotation is finished. `finished`: the new one alone does. `checked`: a dry run, which changed nothing. */
  outcome: "waiting" | "finished" | "checked";
  /** How many keys of organizations were wrapped anew, or opened. */
  organizationKeys: number;
  /** Where the new key lies, in the server's data directory, until it is in use. `null`: none waits. */
  newKeyFile: string | null;
  /** Where the former key lies, in the server's data directory. `null`: this call has replaced none. */
  formerKeyFile: string | null;
}

/** What `caisson keys export` prints. */
const EXPORTED_KEY = /^caisson-key-1:([0-9a-f]{64})$/;

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
    const { waiting, failing, oldest_waiting_at, last_upload_at, last_error, key_rotation } = uploads;
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
      keyRotation: toKeyRotationStatus(key_rotation),
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
   * Makes a new installation key, and wraps the keys of all organizations by it as well; nothing is encrypted anew. The former key stays in use, and both open everything, until {@linkcode SnapshotStore.finishKeyRotation}; a rotation that waits goes on with the
   * same new key. Keep that elsewhere, by `caisson keys export --new` on the server. `dryRun`: only opens every key of the store with the one in use (default: `false`).
   */
  async rotateKey({ dryRun = false, ...options }: RequestOptions & { dryRun?: boolean } = {}): Promise<KeyRotation> {
    const path = "/api/v1/snapshot-store/rotate-key";
    const response = await this.#http.send({ method: "POST", path, body: dryRun ? { dry_run: true } : {}, options });
    return toKeyRotation(response.body);
  }

  /**
   * Uses the new key of a rotation from then on, and takes away what the former one opens. `key`: what `caisson keys export --new` printed, read from where it is kept. It does not travel: what does proves that you have it. Again is success, also after a finish that was cut
   * off. Throws `TypeError` for a text that is no key, and {@linkcode BadRequestError} for another key than the new one.
   */
  async finishKeyRotation({ key, ...options }: RequestOptions & { key: string }): Promise<KeyRotation> {
    const path = "/api/v1/snapshot-store/finish-key-rotation";
    const body = { proof: proofOf(key) };
    return toKeyRotation((await this.#http.send({ method: "POST", path, body, options })).body);
  }
}

/** The HMAC-SHA-256 of a constant under the key, in hexadecimal. */
function proofOf(exported: string): string {
  const hex = EXPORTED_KEY.exec(exported.trim())?.[1];
  if (hex === undefined)
    throw new TypeError(
      "This is no installation key: give what `caisson keys export --new` printed, `caisson-key-1:…`",
    );
  return createHmac("sha256", Buffer.from(hex, "hex")).update("caisson key kept\n").digest("hex");
}

function toKeyRotation(body: unknown): KeyRotation {
  const { outcome, organization_keys, new_key_file, former_key_file } = requireRecord(body);
  return {
    outcome: outcome as KeyRotation["outcome"],
    organizationKeys: Number(organization_keys),
    newKeyFile: typeof new_key_file === "string" ? new_key_file : null,
    formerKeyFile: typeof former_key_file === "string" ? former_key_file : null,
  };
}

/** An older server tells nothing of it. */
function toKeyRotationStatus(value: unknown): KeyRotationStatus | null {
  if (value === null || value === undefined) return null;
  const { stage, since, problem } = requireRecord(value);
  return {
    stage: stage as KeyRotationStatus["stage"],
    since: new Date(String(since)),
    problem: typeof problem === "string" ? problem : null,
  };
}
