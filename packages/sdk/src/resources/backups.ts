import { type HttpClient, path, type RequestOptions, requireRecord } from "../core/http.ts";
import { requireArray } from "../core/page.ts";

/** A backup of the installation's rows in the server's snapshot store. */
export interface Backup {
  /** The id, by its time: `20261127T175200Z-…`. */
  id: string;
  /** As of when the rows are. */
  at: Date;
  /** Whether the schedule made it, which also forgets it. */
  automatic: boolean;
}

/** A backup that was just made. Sizes are in bytes. */
export interface CreatedBackup extends Backup {
  /** Of the rows. */
  size: number;
  /** What it takes in the store, what it shares with others included. */
  stored: number;
  /** What was sent. */
  sent: number;
}

/** What backups there are, and how the last one went. */
export interface BackupOverview {
  /** How often there is to be one, in seconds; `null`: only when somebody asks for it. */
  everySeconds: number | null;
  /** What an administrator must see to, such as that the newest one is too old; `null`: nothing. */
  problem: string | null;
  /** Why the last try failed; `null`: it did not. */
  error: string | null;
  /** When that was. */
  errorAt: Date | null;
  /** The newest first. */
  backups: Backup[];
}

/** Backups of the server's rows: for tokens of the server's first organization; others get {@linkcode PermissionDeniedError}. */
export class Backups {
  readonly #http: HttpClient;

  /** @internal */
  constructor(http: HttpClient) {
    this.#http = http;
  }

  /** What there is. Throws {@linkcode NotSupportedError} when the server has no snapshot store. */
  async list(options?: RequestOptions): Promise<BackupOverview> {
    const wire = requireRecord((await this.#http.send({ method: "GET", path: "/api/v1/backups", options })).body);
    const text = (name: string) => (typeof wire[name] === "string" ? String(wire[name]) : null);
    const errorAt = text("error_at");
    return {
      everySeconds: typeof wire.every_seconds === "number" ? wire.every_seconds : null,
      problem: text("problem"),
      error: text("error"),
      errorAt: errorAt === null ? null : new Date(errorAt),
      backups: requireArray(wire.backups).map(toBackup),
    };
  }

  /** Makes one, and waits until it is in the store. A repeated call makes another one. */
  async create(options?: RequestOptions): Promise<CreatedBackup> {
    const wire = requireRecord((await this.#http.send({ method: "POST", path: "/api/v1/backups", options })).body);
    return { ...toBackup(wire), size: Number(wire.size), stored: Number(wire.stored), sent: Number(wire.sent) };
  }

  /** Deletes one. Throws {@linkcode NotFoundError}. */
  async delete(id: string, options?: RequestOptions): Promise<void> {
    await this.#http.send({ method: "DELETE", path: path`/api/v1/backups/${id}`, isRepeatable: true, options });
  }
}

function toBackup(value: unknown): Backup {
  const wire = requireRecord(value);
  return { id: String(wire.id), at: new Date(String(wire.at)), automatic: wire.automatic === true };
}
