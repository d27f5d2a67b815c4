import { resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { CaissonError, parseDuration, parseSize } from "@caisson/model";
import type { ObjectStoreAddress } from "@caisson/objects";
import { type Static, Type } from "typebox";

/** Which snapshots go to the store without being asked for: all, those labelled `replicate=true`, or none. */
export type ReplicationPolicy = "all" | "labelled" | "none";

/** Where snapshots are kept beside the pool. */
export interface SnapshotStoreConfig extends ObjectStoreAddress {
  /** By region; others have the default. */
  readonly policies: ReadonlyMap<string, ReplicationPolicy>;
  readonly defaultPolicy: ReplicationPolicy;
  /** What uploads may send together; null: as much as there is. */
  readonly bytesPerSecond: number | null;
  /** How long a chunk that no snapshot has stays. */
  readonly graceMs: number;
  /** How often the rows are backed up there; null: only when somebody asks for it. */
  readonly backupEveryMs: number | null;
  /** How long automatic backups stay, thinned out to one a day. */
  readonly backupKeepMs: number;
}

const closed = { additionalProperties: false };
const Policy = Type.Union([Type.Literal("all"), Type.Literal("labelled"), Type.Literal("none")]);
const HOUR_MS = 3_600_000;
/** Some seconds: enough for trying it out. */
const MIN_GRACE_HOURS = 0.001;
const MIN_BANDWIDTH = 64 * 1024;

/** The table `[snapshot_store]`. */
export const SnapshotStoreSchema = Type.Object(
  {
    url: Type.Optional(Type.String()),
    endpoint: Type.Optional(Type.String()),
    region: Type.Optional(Type.String({ minLength: 1 })),
    path_style: Type.Optional(Type.Boolean()),
    ca: Type.Optional(Type.String()),
    replication: Type.Optional(Policy),
    regions: Type.Optional(Type.Record(Type.String(), Policy)),
    bandwidth: Type.Optional(Type.Union([Type.Integer({ minimum: 1 }), Type.String()])),
    grace_hours: Type.Optional(Type.Number({ minimum: MIN_GRACE_HOURS })),
    backup_every: Type.Optional(Type.String()),
    backup_keep_days: Type.Optional(Type.Integer({ minimum: 1, maximum: 3650 })),
  },
  closed,
);

/** Throws `INVALID_CONFIG` that names the setting. */
export function parseSnapshotStore(table: Static<typeof SnapshotStoreSchema> | undefined): SnapshotStoreConfig | null {
  if (table === undefined || Object.keys(table).length === 0) return null;
  if (table.url === undefined)
    throw invalid("snapshot_store.url is missing: give s3://BUCKET/PREFIX or file:///DIRECTORY, or remove the table");
  const url = parseUrl(table.url);
  if (url.protocol === "file:") refuseForDirectory(table);
  const wrong = Object.keys(table.regions ?? {}).find((name) => !/^[a-z]{3}$/.test(name));
  if (wrong !== undefined)
    throw invalid(
      `snapshot_store.regions names ${JSON.stringify(wrong)}: a region has three small letters, such as ord`,
    );
  const endpoint = table.endpoint === undefined ? null : parseEndpoint(table.endpoint);
  return {
    url: url.href,
    endpoint,
    region: table.region ?? null,
    // Services of one's own seldom have a name for each bucket.
    isPathStyle: table.path_style ?? endpoint !== null,
    authorityPath: table.ca === undefined ? null : resolve(table.ca),
    policies: new Map(Object.entries(table.regions ?? {})),
    defaultPolicy: table.replication ?? "all",
    bytesPerSecond: table.bandwidth === undefined ? null : parseBandwidth(table.bandwidth),
    graceMs: (table.grace_hours ?? 24) * HOUR_MS,
    backupEveryMs: parseBackupEvery(table.backup_every ?? "15m"),
    backupKeepMs: (table.backup_keep_days ?? 30) * 24 * HOUR_MS,
  };
}

function parseUrl(text: string): URL {
  const url = URL.parse(text);
  if (url !== null && (url.username !== "" || url.password !== ""))
    throw invalid(
      "snapshot_store.url has credentials in it, which are not read from there. Take them out, and set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY for the server",
    );
  if (url !== null && url.port !== "")
    throw invalid(
      `snapshot_store.url has port ${url.port}: give it with the service's host in snapshot_store.endpoint`,
    );
  const isDirectory = url?.protocol === "file:" && url.hostname === "" && url.pathname.length > 1;
  const isS3 = url?.protocol === "s3:" && url.hostname !== "";
  if (url === null || (!isDirectory && !isS3) || url.search !== "" || url.hash !== "")
    throw invalid(
      `snapshot_store.url is ${JSON.stringify(text)}: give s3://BUCKET/PREFIX, or file:///DIRECTORY for a mounted disk or share`,
    );
  try {
    if (isDirectory) fileURLToPath(url);
    else decodeURIComponent(url.pathname);
  } catch (error) {
    throw invalid(
      `snapshot_store.url is ${JSON.stringify(text)}: a percent sign stands before two hexadecimal digits, %25 for itself, and never for a slash`,
      error,
    );
  }
  return url;
}

function refuseForDirectory(table: Static<typeof SnapshotStoreSchema>): void {
  const foreign = (["endpoint", "region", "path_style", "ca"] as const).find((name) => table[name] !== undefined);
  if (foreign !== undefined)
    throw invalid(`snapshot_store.${foreign} has no meaning for a directory: remove it, or give an s3:// URL`);
}

function parseEndpoint(text: string): string {
  const url = URL.parse(text);
  if (url !== null && ["http:", "https:"].includes(url.protocol) && `${url.origin}/` === url.href) return url.origin;
  throw invalid(
    `snapshot_store.endpoint is ${JSON.stringify(text)}: give an origin and nothing after it, for example https://s3.example.com`,
  );
}

function parseBandwidth(value: string | number): number {
  let bytes: number;
  try {
    bytes = parseSize(value);
  } catch (error) {
    throw invalid(
      `The setting snapshot_store.bandwidth: ${String(error instanceof Error ? error.message : error)}`,
      error,
    );
  }
  if (bytes >= MIN_BANDWIDTH) return bytes;
  throw invalid(
    `snapshot_store.bandwidth ${JSON.stringify(value)} is too little: give at least 64KiB, for every second`,
  );
}

function parseBackupEvery(text: string): number | null {
  if (text === "off") return null;
  let everyMs = 0;
  try {
    everyMs = parseDuration(text);
  } catch (error) {
    throw invalid(`snapshot_store.backup_every is ${JSON.stringify(text)}: give a time such as "15m", or "off"`, error);
  }
  if (everyMs <= 24 * HOUR_MS) return everyMs;
  throw invalid(`snapshot_store.backup_every ${JSON.stringify(text)} is too rare: give at most "1440m", or "off"`);
}

function invalid(message: string, cause?: unknown): CaissonError {
  return new CaissonError("INVALID_CONFIG", message, { cause });
}
