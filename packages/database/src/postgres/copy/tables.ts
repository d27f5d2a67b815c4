import type { Row } from "../../records.ts";
import type { Value } from "../database.ts";
import { labelWords } from "../label-words.ts";

/** How a table is copied: its columns, which both databases have, in an order that is stable in both. */
export interface Table {
  readonly name: string;
  readonly columns: readonly string[];
  /** What identifies a row, and orders the rows. */
  readonly key: readonly string[];
  /** Columns that only PostgreSQL has, made of the others. */
  readonly derived: Readonly<Record<string, (row: Row) => Value>>;
}

const LABEL_WORDS = { label_words: (row: Row) => labelWords(JSON.parse(String(row.labels))) };

/** Every table, those that others refer to first. */
export const TABLES: readonly Table[] = [
  { name: "organizations", columns: ["id", "slug", "created_at_ms"], key: ["id"], derived: {} },
  {
    name: "tokens",
    columns: ["id", "organization_id", "name", "hash", "created_at_ms", "revoked_at_ms"],
    key: ["id"],
    derived: {},
  },
  {
    name: "ssh_keys",
    columns: ["id", "organization_id", "name", "type", "public_key", "fingerprint", "created_at_ms"],
    key: ["id"],
    derived: {},
  },
  {
    name: "nodes",
    columns: [
      "id",
      "regions",
      "address",
      "labels",
      "run_id",
      "generation",
      "is_draining",
      "lease_until_ms",
      "started_at_ms",
      "seen_at_ms",
      "places",
      "memory_mib",
      "reserved_places",
      "reserved_memory_mib",
      "free_bytes",
      "only_region",
      "lost_at_ms",
      "certificate_until_ms",
      "certificate_authority",
      "oldest_authority",
      "shared_pools",
      "shut_out_generation",
    ],
    key: ["id"],
    derived: {},
  },
  { name: "forgotten_nodes", columns: ["id", "address", "forgotten_at_ms"], key: ["id"], derived: {} },
  { name: "authorities", columns: ["number", "certificate", "private_key"], key: ["number"], derived: {} },
  {
    name: "snapshot_store",
    columns: ["only_row", "key_fingerprint", "store_id", "marks", "key_rotation"],
    key: ["only_row"],
    derived: {},
  },
  {
    name: "join_tokens",
    columns: ["id", "hash", "region", "created_at_ms", "expires_at_ms", "key_fingerprint", "node_id"],
    key: ["id"],
    derived: {},
  },
  {
    name: "disks",
    columns: [
      "sequence",
      "kind",
      "id",
      "node_id",
      "node_generation",
      "organization_id",
      "slug",
      "region",
      "state",
      "capacity_bytes",
      "grow_to_bytes",
      "is_bootable",
      "consistency",
      "parent_kind",
      "parent_id",
      "parent_slug",
      "base_snapshot_id",
      "base_snapshot_slug",
      "base_image_id",
      "labels",
      "allocated_bytes",
      "flattened_bytes",
      "exclusive_bytes",
      "inodes",
      "used_inodes",
      "usage_measured_at_ms",
      "created_at_ms",
      "deleted_at_ms",
      "purge_at_ms",
      "lost_at_ms",
      "last_error",
      "last_error_at_ms",
      "replication_state",
      "replication_at_ms",
      "replication_retry_at_ms",
      "replication_detail",
      "every_ms",
      "scheduled_at_ms",
      "schedule_detail",
      "is_automatic",
      "taken_from",
    ],
    key: ["sequence"],
    derived: LABEL_WORDS,
  },
  {
    name: "sandboxes",
    columns: [
      "sequence",
      "id",
      "node_id",
      "node_generation",
      "organization_id",
      "region",
      "status",
      "stop_reason",
      "labels",
      "memory_mib",
      "created_at_ms",
      "stop_at_ms",
      "stopped_at_ms",
      "keep_until_ms",
      "damages",
    ],
    key: ["sequence"],
    derived: LABEL_WORDS,
  },
  {
    name: "holds",
    columns: ["volume_id", "sandbox_id", "is_read_only"],
    key: ["volume_id", "sandbox_id"],
    derived: {},
  },
  {
    name: "idempotency_keys",
    columns: ["organization_id", "key", "request_hash", "object_id", "created_at_ms"],
    key: ["organization_id", "key"],
    derived: {},
  },
  {
    name: "events",
    columns: ["sequence", "organization_id", "at_ms", "actor", "verb", "object_id", "outcome", "detail"],
    key: ["sequence"],
    derived: {},
  },
];

/** Tables whose rows have numbers of their own, which go on where they were. */
export const NUMBERED = ["disks", "sandboxes", "events"] as const;

const BOOLEANS = new Set(["is_automatic", "is_bootable", "is_draining", "is_read_only"]);

/** A value of SQLite as PostgreSQL has it. */
export function converted(column: string, value: unknown): Value {
  return BOOLEANS.has(column) ? value === 1 : (value as Value);
}
