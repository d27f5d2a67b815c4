import { type Static, type TObject, type TProperties, Type } from "typebox";

/**
 * Bodies of the REST endpoints (protocol.md section 2): snake_case for volumes and snapshots, camelCase for sandboxes. The wire forms
 * have exactly these keys; what Caisson adds is in the extended forms, negotiated with `Accept: application/vnd.caisson+json`.
 */
export const EXTENDED_MEDIA_TYPE = "application/vnd.caisson+json";

/** Header names of protocol.md 1.4. */
export const HEADERS = {
  config: "x-deno-sandbox-config",
  sandboxId: "x-deno-sandbox-id",
  traceId: "x-deno-trace-id",
  /** On the 101 of a sandbox that ends at a time: that time, in epoch milliseconds. Ours; it may be earlier than what was asked for. */
  stopAt: "x-caisson-stop-at-ms",
  organization: "x-deno-org",
  idempotencyKey: "idempotency-key",
} as const;

const closed = { additionalProperties: false };

/** The form with more members: the wire form's, then ours. */
function extend<A extends TProperties, B extends TProperties>(base: TObject<A>, properties: B) {
  return Type.Object({ ...base.properties, ...properties }, closed);
}

function nullable<T extends Type.TSchema>(schema: T) {
  return Type.Union([schema, Type.Null()]);
}

export function StorageClassSchema(description: string) {
  return Type.Union([Type.Literal("local"), Type.Literal("replicated")], { description });
}

const Timestamp = Type.String({ format: "date-time", description: "ISO 8601, UTC" });
export const LabelsSchema = Type.Record(Type.String(), Type.String(), { description: "At most 5 pairs of text" });
export const ReferenceSchema = Type.Object({ id: Type.String(), slug: Type.String() }, closed);

export const ErrorSchema = Type.Object(
  { code: Type.String({ description: "Stable, for programs" }), message: Type.String({ description: "For people" }) },
  closed,
);
export const ExtendedErrorSchema = extend(ErrorSchema, {
  hint: Type.String({ description: "What to do next" }),
  request_id: Type.String(),
});

/** Sizes that only the extended forms tell. */
const usageProperties = {
  exclusive: Type.Integer({ description: "Bytes that nothing else shares: what deleting it would free" }),
  inodes: nullable(
    Type.Integer({ description: "Files, directories and links that its file system can hold; null: not measured yet" }),
  ),
  used_inodes: nullable(Type.Integer({ description: "How many of them are in use; a few are the file system's own" })),
  usage_measured_at: nullable(
    Type.String({
      format: "date-time",
      description: "When the sizes were measured; null: not yet, they are those of what it was made from",
    }),
  ),
};

export const VolumeSchema = Type.Object(
  {
    id: Type.String(),
    slug: Type.String(),
    region: Type.String(),
    capacity: Type.Integer({ description: "Bytes" }),
    estimated_allocated_size: Type.Integer({
      description: "Bytes beyond the snapshot or built-in image that it was created from; of a blank volume, all",
    }),
    estimated_flattened_size: Type.Integer({ description: "Bytes of all its data, shared data included" }),
    is_bootable: Type.Boolean(),
    base_snapshot: nullable(ReferenceSchema),
    used: Type.Integer({ description: "Bytes; the same as estimated_flattened_size" }),
  },
  closed,
);

export const ParentSchema = Type.Object(
  { kind: Type.Union([Type.Literal("snapshot"), Type.Literal("image")]), id: Type.String(), slug: Type.String() },
  closed,
);

export const LastErrorSchema = Type.Object(
  { message: Type.String({ description: "For people" }), at: Timestamp },
  { ...closed, description: "What went wrong with it, such as writes that were lost, until it is acknowledged" },
);

/** Of volumes and snapshots. */
const UnavailableSchema = nullable(
  Type.String({
    description:
      "Why it cannot be used now, and what to do: its disk is missing, or its region is not in the server's settings. It is not lost",
  }),
);

/** Of volumes and snapshots. */
const StorageClassOfDisk = StorageClassSchema(
  "Where its bytes live: local, in the pool of its node; replicated, in the replicated pool",
);

/** Of volumes and snapshots. */
const NodeIdSchema = Type.String({ description: "Id of the node that has it" });

export const ScheduleSchema = Type.Object(
  {
    every: Type.String({ description: "How often, such as 5m" }),
    next_at: Type.String({
      format: "date-time",
      description: "When the next one is made, or is tried again; past: its node is away",
    }),
    error: nullable(Type.String({ description: "Why the last one could not be made" })),
    replicates: Type.Boolean({
      description: "Whether they go to the snapshot store; false: the server has none, and they are in the pool alone",
    }),
  },
  { ...closed, description: "Snapshots that the server makes by itself, and thins out" },
);

export const ExtendedVolumeSchema = extend(VolumeSchema, {
  ...usageProperties,
  labels: LabelsSchema,
  created_at: Timestamp,
  deleted_at: nullable(Timestamp),
  purge_at: nullable(Timestamp),
  node: NodeIdSchema,
  storage_class: StorageClassOfDisk,
  attached_to: nullable(Type.String({ description: "Id of the sandbox that holds it read-write" })),
  last_error: nullable(LastErrorSchema),
  unavailable: UnavailableSchema,
  parent: nullable(ParentSchema),
  schedule: nullable(ScheduleSchema),
  replicated_at: nullable(
    Type.String({
      format: "date-time",
      description:
        "As of when the snapshot store has it: when the newest of its replicated snapshots was taken; null: it has none",
    }),
  ),
});

export const ReplicationSchema = Type.Object(
  {
    state: Type.Union(
      [Type.Literal("local"), Type.Literal("uploading"), Type.Literal("failed"), Type.Literal("replicated")],
      {
        description:
          "local: not in the snapshot store; uploading: to be, or under way; failed: so was the last try, and there will be another; replicated: all of it is there, and the store has confirmed it",
      },
    ),
    at: nullable(Type.String({ format: "date-time", description: "When it was replicated" })),
    bytes: nullable(Type.Integer({ description: "What it takes in the store, also what it shares there with others" })),
    read: nullable(Type.Integer({ description: "Bytes of it that were read" })),
    shared: nullable(
      Type.Integer({ description: "Bytes that were not read, because another snapshot in the store has the same" }),
    ),
    sent: nullable(Type.Integer({ description: "Bytes that were sent: compressed, and without what the store had" })),
    manifest: nullable(Type.String({ description: "Key of the object that names its parts" })),
    error: nullable(Type.String({ description: "Why the last try failed" })),
    retry_at: nullable(Type.String({ format: "date-time", description: "When it is tried again, of what has failed" })),
  },
  closed,
);

export const FetchSchema = Type.Object(
  {
    started_at: Timestamp,
    done: Type.Integer({ description: "Bytes of it that have come, were verified and are in the pool" }),
    total: nullable(
      Type.Integer({ description: "Bytes that are to come; null: it waits for its turn, or for the store's answer" }),
    ),
  },
  { ...closed, description: "Its image is coming back from the snapshot store, for somebody who uses it" },
);

/** What a reading of everything has found in one place. */
const verifiedProperties = {
  state: Type.Union([Type.Literal("whole"), Type.Literal("damaged"), Type.Literal("missing"), Type.Literal("unknown")]),
  problem: nullable(Type.String({ description: "For people" })),
};

export const VerificationSchema = Type.Object(
  {
    id: Type.String(),
    slug: Type.String(),
    store: Type.Object(verifiedProperties, { ...closed, description: "Its copy in the snapshot store" }),
    pool: Type.Object(verifiedProperties, {
      ...closed,
      description: "Its image in the pool; missing: it comes back from the store when it is used",
    }),
    read: Type.Integer({ description: "Bytes that were read" }),
    renewed: Type.Boolean({ description: "Its copy is damaged and its image whole: it is uploaded again" }),
  },
  closed,
);

export const SnapshotSchema = Type.Object(
  {
    id: Type.String(),
    slug: Type.String(),
    region: Type.String(),
    allocated_size: Type.Integer({
      description: "Bytes beyond the base that its volume was created from; of a blank volume, all",
    }),
    flattened_size: Type.Integer({ description: "Bytes of all its data, shared data included" }),
    is_bootable: Type.Boolean(),
    volume: ReferenceSchema,
  },
  closed,
);

export const ExtendedSnapshotSchema = extend(SnapshotSchema, {
  bootable: Type.Boolean(),
  ...usageProperties,
  labels: LabelsSchema,
  created_at: Timestamp,
  deleted_at: nullable(Timestamp),
  purge_at: nullable(Timestamp),
  node: NodeIdSchema,
  storage_class: StorageClassOfDisk,
  consistency: Type.Union([Type.Literal("clean"), Type.Literal("frozen")]),
  base_snapshot: nullable(ReferenceSchema),
  unavailable: UnavailableSchema,
  automatic: Type.Boolean({
    description:
      "The schedule of its volume made it, and thins it out; labelling it, or asking for its replication, makes it stay",
  }),
  replication: ReplicationSchema,
  fetch: nullable(FetchSchema),
});

export const SandboxSchema = Type.Object(
  {
    id: Type.String(),
    createdAt: Timestamp,
    stoppedAt: nullable(Timestamp),
    region: Type.String(),
    status: Type.Union([Type.Literal("running"), Type.Literal("stopped")]),
    labels: LabelsSchema,
  },
  closed,
);

export const DescendantSchema = Type.Object(
  {
    kind: Type.Union([Type.Literal("volume"), Type.Literal("snapshot")]),
    id: Type.String(),
    slug: Type.String(),
    region: Type.String(),
    created_at: Timestamp,
    parent_id: Type.String(),
  },
  closed,
);

/** Unknown members of request bodies are ignored and must not be logged: they may hold a token (protocol.md 2.1). */
export const CreateVolumeSchema = Type.Object({
  slug: Type.String(),
  region: Type.String(),
  capacity: Type.Union([Type.Integer(), Type.String()], { description: 'Bytes, or a text such as "10GB"' }),
  from: Type.Optional(nullable(Type.String({ description: "builtin:debian-13, or a snapshot's id or slug" }))),
  storage_class: Type.Optional(
    nullable(StorageClassSchema("Where its bytes live. Default: as the server's settings say (volumes.default_class)")),
  ),
  inodes: Type.Optional(
    nullable(
      Type.Integer({
        description:
          "Files, directories and links that a blank volume can hold at least: 1024 to one for every 4 KiB. Default: one for every 10 KiB. " +
          "Clones and snapshots keep them, and growing adds in proportion",
      }),
    ),
  ),
  labels: Type.Optional(nullable(LabelsSchema)),
  every: Type.Optional(
    nullable(
      Type.String({
        description:
          "How often the server makes a snapshot of it by itself, in s, m, h or d, such as 5m: from 1m to 30d by default. Default: never",
      }),
    ),
  ),
});
export const ScheduleVolumeSchema = Type.Object({
  every: nullable(Type.String({ description: "As of a create; null: no more" })),
});
export const CreateSnapshotSchema = Type.Object({
  slug: Type.String(),
  labels: Type.Optional(nullable(LabelsSchema)),
});
export const RestoreSchema = Type.Object({ slug: Type.Optional(nullable(Type.String())) });
export const GrowVolumeSchema = Type.Object({ capacity: Type.Union([Type.Integer(), Type.String()]) });
export const UpdateLabelsSchema = Type.Object({ labels: LabelsSchema });
export const ExtendSandboxSchema = Type.Object({ stop_at_ms: Type.Integer({ description: "Epoch milliseconds" }) });

/** Without a target the RPC `exposeHttp` says it (protocol.md 2.5). */
export const ExposeHttpSchema = Type.Object({
  port: Type.Optional(nullable(Type.Integer({ minimum: 1, maximum: 65_535 }))),
  pid: Type.Optional(
    nullable(Type.Integer({ minimum: 1, description: "A process: its HTTP server, wherever it listens" })),
  ),
  private: Type.Optional(nullable(Type.Boolean({ description: "Needs the token, or a signed link. Default: false" }))),
  rewrite_host: Type.Optional(
    nullable(Type.Boolean({ description: "The server inside sees localhost:port as its Host. Default: false" })),
  ),
});
export const PreviewSchema = Type.Object(
  {
    domain: Type.String({ description: "host, or host:port" }),
    url: Type.String(),
    port: nullable(Type.Integer()),
    pid: nullable(Type.Integer()),
    private: Type.Boolean(),
    rewrite_host: Type.Boolean(),
    created_at: Timestamp,
  },
  closed,
);
export const CreatedPreviewSchema = extend(PreviewSchema, {
  token: nullable(Type.String({ description: "Of a private one, shown this once: X-Caisson-Preview-Token" })),
});
export const PreviewLinkBodySchema = Type.Object({
  expires_in_seconds: Type.Optional(
    nullable(Type.Integer({ minimum: 1, maximum: 604_800, description: "Default: 3600" })),
  ),
  path: Type.Optional(
    nullable(
      Type.String({ pattern: "^/(?![/\\\\])[\\x21-\\x5b\\x5d-\\x7e]*$", maxLength: 1024, description: "Default: /" }),
    ),
  ),
});
export const PreviewLinkSchema = Type.Object({ url: Type.String(), expires_at: Timestamp }, closed);

/** Those three members alone: the official clients read no others. */
export const CreatedSshAccessSchema = Type.Object(
  {
    hostname: Type.String(),
    username: Type.String({ description: "The credential, shown this once" }),
    port: Type.Integer(),
  },
  closed,
);
export const SshRevokeBodySchema = Type.Object({
  username: Type.Optional(nullable(Type.String({ description: "Default: all of the sandbox" }))),
});
export const SshEndpointSchema = Type.Object(
  {
    hostname: Type.String(),
    port: Type.Integer(),
    host_key: Type.String({ description: "Type and key, as a line of known_hosts has them" }),
    fingerprint: Type.String(),
  },
  closed,
);
export const SshKeyBodySchema = Type.Object({
  public_key: Type.String({ maxLength: 8192, description: "A line of a .pub file" }),
  name: Type.Optional(nullable(Type.String({ description: "Default: the comment in the line" }))),
});
export const SshKeySchema = Type.Object(
  {
    id: Type.String(),
    name: Type.String(),
    type: Type.String(),
    public_key: Type.String(),
    fingerprint: Type.String(),
    created_at: Timestamp,
  },
  closed,
);

export type WirePreview = Static<typeof PreviewSchema>;
export type WireCreatedPreview = Static<typeof CreatedPreviewSchema>;
export type WireSshAccess = Static<typeof CreatedSshAccessSchema>;
export type WireSshEndpoint = Static<typeof SshEndpointSchema>;
export type WireSshKey = Static<typeof SshKeySchema>;
export type WireError = Static<typeof ErrorSchema>;
export type ExtendedError = Static<typeof ExtendedErrorSchema>;
export type WireVolume = Static<typeof VolumeSchema>;
export type ExtendedVolume = Static<typeof ExtendedVolumeSchema>;
export type WireVerification = Static<typeof VerificationSchema>;
export type WireSnapshot = Static<typeof SnapshotSchema>;
export type ExtendedSnapshot = Static<typeof ExtendedSnapshotSchema>;
export type WireSandbox = Static<typeof SandboxSchema>;
export type WireDescendant = Static<typeof DescendantSchema>;
export type CreateVolumeBody = Static<typeof CreateVolumeSchema>;
