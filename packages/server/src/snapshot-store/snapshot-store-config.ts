import { resolve } from "node:path";
import { CaissonError, parseSize } from "@caisson/model";
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
    regions: Type.Optional(Type.Record(Type.String({ pattern: "^[a-z]{3}$" }), Policy)),
    bandwidth: Type.Optional(Type.Union([Type.Integer({ minimum: 1 }), Type.String()])),
    grace_hours: Type.Optional(Type.Number({ minimum: MIN_GRACE_HOURS })),
  },
  closed,
);

/** Throws `INVALID_CONFIG` that names the setting. */
export function parseSnapshotStore(table: Static<typeof SnapshotStoreSchema> | undefined): SnapshotStoreConfig | null {
  if (table === undefined || Object.keys(table).length === 0) return null;
  if (table.url === undefined)
    throw invalid("snapshot_store.url is missing: give s3://BUCKET/PREFIX or file:///DIRECTORY, or remove the table");
  const url = URL.parse(table.url);
  const isDirectory = url?.protocol === "file:" && url.hostname === "" && url.pathname.length > 1;
  const isS3 = url?.protocol === "s3:" && url.hostname !== "" && url.username === "" && url.search === "";
  if (url === null || (!isDirectory && !isS3)) {
    throw invalid(
      `snapshot_store.url is ${JSON.stringify(table.url)}: give s3://BUCKET/PREFIX, or file:///DIRECTORY for a mounted disk or share`,
    );
  }
  if (isDirectory) refuseForDirectory(table);
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
  };
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

function invalid(message: string, cause?: unknown): CaissonError {
  return new CaissonError("INVALID_CONFIG", message, { cause });
}
