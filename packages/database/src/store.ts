import type { Labels, StopReason } from "@caisson/model";
import type { TakeOverFrom } from "./take-over.ts";

/**
 * The database seam: what the control plane remembers.
 *
 * Contract of every method
 * - One method is one transaction; it is durable when its promise resolves.
 * - A change that the audit trail tells of takes its event, which is written in the same transaction: both happen or neither. A refusal writes none.
 * - A rule that must hold under concurrency (one slug, one writer, the concurrency limit) is enforced inside the transaction and answers
 *   with a `CaissonError` or with the conflict as data where the caller goes on from it.
 * - Times are epoch milliseconds. Lists are newest first.
 * - A call that begins something on a node takes the node's owner, and throws `NODE_UNAVAILABLE` for an owner that is not the node's latest.
 */
export interface Store {
  readonly organizations: OrganizationStore;
  readonly nodes: NodeStore;
  readonly joining: JoiningStore;
  readonly disks: DiskStore;
  readonly sandboxes: SandboxStore;
  readonly sshKeys: SshKeyStore;
  readonly snapshotStore: SnapshotStoreRows;
  readonly events: EventStore;
  /** Null: no other server can have these rows, because they are in this one's data directory. */
  readonly leadership: Leadership | null;
  /**
   * Writes every row, as of one moment, to a new SQLite file at `path`, which `openSqliteStore` opens and `copyToPostgres` copies back, whatever database this is. Changes go on meanwhile.
   * Nothing of the file may be used when it fails, and it is not on stable storage when it resolves.
   */
  backup(path: string): Promise<void>;
  close(): Promise<void>;
}

/** Where a server takes connections of one kind. */
export interface ListenerAddress {
  readonly host: string;
  readonly port: number;
}

/** Where others that stand by for a server reach it. */
export interface ServerAddress {
  readonly api: ListenerAddress;
  readonly previews: ListenerAddress;
  /** Null: switched off. */
  readonly ssh: ListenerAddress | null;
}

/** Of several servers of one installation, the one that has the database leads. */
export interface Leadership {
  /** Raised with each server that begins to lead. */
  readonly term: number;
  /** Tells those that stand by where this server takes connections. */
  announce(address: ServerAddress): Promise<void>;
  /** The text that all servers of the installation have by this name: the given one, if this is the first to give one. */
  share(name: string, text: string): Promise<string>;
}

export interface Organization {
  readonly id: string;
  readonly slug: string;
  readonly createdAtMs: number;
}

export interface Token {
  readonly id: string;
  readonly organizationId: string;
  readonly name: string;
  readonly createdAtMs: number;
}

export interface OrganizationStore {
  /** Throws `SLUG_ALREADY_IN_USE`. */
  create(organization: Organization, event: AuditEvent): Promise<void>;
  get(idOrSlug: string): Promise<Organization | null>;
  list(): Promise<readonly Organization[]>;
  createToken(token: Token, hash: Uint8Array, event: AuditEvent): Promise<void>;
  /** The token with this hash and whose it is, unless it is revoked. */
  findToken(hash: Uint8Array): Promise<{ readonly token: Token; readonly organization: Organization } | null>;
  /** Whether there is, or was, a token with this hash. */
  isTokenKnown(hash: Uint8Array): Promise<boolean>;
  listTokens(organizationId: string): Promise<readonly Token[]>;
  /** False when the organization has no such token, or it was revoked before. */
  revokeToken(organizationId: string, tokenId: string, nowMs: number, event: AuditEvent): Promise<boolean>;
  /** Revokes a token and creates another one of its organization, in one transaction. False, with nothing done, as for `revokeToken`. */
  rotateToken(tokenId: string, token: Token, hash: Uint8Array, event: AuditEvent): Promise<boolean>;
}

/** A public key that may log in to the organization's sandboxes. */
export interface SshKey {
  readonly id: string;
  readonly organizationId: string;
  readonly name: string;
  /** For example `ssh-ed25519`. */
  readonly type: string;
  /** In base64, as in a `.pub` file. */
  readonly publicKey: string;
  /** `SHA256:…` */
  readonly fingerprint: string;
  readonly createdAtMs: number;
}

export interface SshKeyStore {
  /** Throws `INVALID_REQUEST` when the organization has the key already. */
  add(key: SshKey, event: AuditEvent): Promise<void>;
  list(organizationId: string): Promise<readonly SshKey[]>;
  find(organizationId: string, fingerprint: string): Promise<SshKey | null>;
  /** False when the organization has no such key. */
  remove(organizationId: string, id: string, event: AuditEvent): Promise<boolean>;
}

/** A replacement of the installation's key that is not at its end: the store has wraps by two keys. */
export interface KeyRotationState {
  /** `waiting`: the former key is the one in use, and either opens everything, until an administrator shows that the new one is kept elsewhere. `finishing`: the new one is in use, and the wraps by the former one go. */
  readonly stage: "waiting" | "finishing";
  /** Of the key that is to be the only one. */
  readonly newKeyFingerprint: string;
  /** Since when it is at this stage. */
  readonly sinceMs: number;
}

/** What the installation knows of its snapshot store. */
export interface SnapshotStoreRecord {
  /** Of the installation's key; null: there was none yet. */
  readonly keyFingerprint: string | null;
  /** Which store has what is `replicated`; null: not known yet. */
  readonly storeId: string | null;
  /** Those that servers of this installation have put into it, or were about to: a mark of the store that is none of these is of a server with another database. */
  readonly marks: readonly string[];
  readonly keyRotation: KeyRotationState | null;
}

/** What waits for the snapshot store. */
export interface UploadTotals {
  readonly waiting: number;
  /** Of these, those whose last try failed. */
  readonly failing: number;
  /** When the oldest of them was taken; null: none waits. */
  readonly oldestAtMs: number | null;
}

export interface SnapshotStoreRows {
  get(): Promise<SnapshotStoreRecord>;
  /** Keeps what is given, and the rest as it is, with the event of that. */
  remember(changes: Partial<SnapshotStoreRecord>, event?: AuditEvent | null): Promise<void>;
  /** Snapshots in any state that are `replicated`. */
  countReplicas(): Promise<number>;
  /** Ready snapshots of all organizations that are to be uploaded. */
  uploadTotals(): Promise<UploadTotals>;
  /**
   * Remembers another store, or the same one anew: what is `replicated` is to be uploaded, in the same transaction. Snapshots whose node was forgotten stay as they are: no node could upload them, and they are nowhere but in the store
   * that was. Returns how many are to be uploaded.
   */
  accept(changes: Partial<SnapshotStoreRecord>, nowMs: number, event: AuditEvent): Promise<number>;
}

/** One run of a node: who began what is under way. */
export interface Owner {
  readonly nodeId: string;
  readonly generation: number;
}

/** What a node says of itself when it begins. */
export interface NewNode {
  readonly id: string;
  readonly regions: readonly string[];
  /** Where the server reaches it: host name or address, and the port of a node on another machine. Null: where the row says. */
  readonly address: string | null;
  readonly labels: Labels;
  readonly capacity: NodeCapacity;
  /** Which start of its process this is: random, and another one each time. */
  readonly runId: string;
  /** What it shares with other nodes, as far as it has opened that. Default: nothing more than it has said before. */
  readonly sharedPools?: SharedPools;
}

/** A pool that several nodes use at once. */
export interface SharedPool {
  /** The same for all nodes that use it. */
  readonly identity: string;
  /** The node's opening of it, by which the others can shut it out. */
  readonly instance: string;
}

/** By region. */
export type SharedPools = Readonly<Record<string, SharedPool>>;

/** How much the sandboxes of a node may have together. */
export interface NodeCapacity {
  readonly places: number;
  /** Null: any, they share what the host has. */
  readonly memoryMib: number | null;
}

export interface NodeRecord extends Omit<NewNode, "address"> {
  readonly address: string;
  /** What it has said last of each region. */
  readonly sharedPools: SharedPools;
  /** A disk was taken over from its latest run, which may do nothing more. */
  readonly isShutOut: boolean;
  /** Raised by each run that begins. 0: it has joined, and not begun yet. */
  readonly generation: number;
  /** It gets no new sandboxes; those that it has go on. */
  readonly isDraining: boolean;
  /** Whether its lease holds, by the store's clock. */
  readonly isLive: boolean;
  readonly leaseUntilMs: number;
  /** When its last run began; before the first, when it joined. */
  readonly startedAtMs: number;
  /** When it renewed its lease last; before that, as `startedAtMs`. */
  readonly seenAtMs: number;
  /** What its sandboxes have of its capacity, from their reservation to their end. */
  readonly reserved: { readonly places: number; readonly memoryMib: number };
  /** What its pools have free, by region, as it said with its lease; a region of which it has said nothing is absent. */
  readonly freeBytes: FreeBytes;
  /** Until when its certificate is good, as a server saw it last. Null: none has seen it, as with the node in the server's own process, which needs none. */
  readonly certificateUntilMs: number | null;
  /** The number of the authority that has signed that certificate. Null: not known. */
  readonly certificateAuthority: number | null;
  /** The number of the oldest authority that it believes, as it was told last. Null: not known. */
  readonly oldestAuthority: number | null;
  /** When it was given up as lost for ever; it is forgotten as soon as what it had is settled. Null: it was not. */
  readonly lostAtMs: number | null;
}

/** A node that was forgotten, and was not told so yet. */
export interface ForgottenNode {
  readonly id: string;
  /** Where it is reached, should it come back. */
  readonly address: string;
  readonly forgottenAtMs: number;
}

/** Bytes by region. */
export type FreeBytes = Readonly<Record<string, number>>;

/**
 * The machines that hold disks and run sandboxes. The clock of the store decides how long a lease holds. One that ran out takes nothing away from a node: only a
 * later generation does.
 */
export interface NodeStore {
  /**
   * Begins a run of the node: the next generation, with a lease of so many milliseconds. The run that began last keeps its generation. Either way the row is as the
   * node describes itself now, and what its sandboxes have of its capacity is counted anew. Whether it drains stays as it is. Throws `NODE_UNAVAILABLE` for a node
   * that was forgotten, for one that says other regions than the only one that its token for joining gave it, and for a run that was shut out.
   */
  begin(node: NewNode, leaseMs: number): Promise<NodeRecord>;
  /**
   * Lengthens the lease, also one that ran out, and remembers what the node's pools have free, and what it shares besides what it has said before. Throws `NODE_UNAVAILABLE` when the node has begun again, was forgotten or
   * shut out: this run of it must end.
   */
  renew(owner: Owner, leaseMs: number, freeBytes: FreeBytes, sharedPools?: SharedPools): Promise<void>;
  get(id: string): Promise<NodeRecord | null>;
  /** All, by id. */
  list(): Promise<readonly NodeRecord[]>;
  /** Begins or ends draining. Throws `NODE_NOT_FOUND`. As it should be already is success, without an event. */
  setDraining(id: string, isDraining: boolean, event: AuditEvent): Promise<NodeRecord>;
  /** Changes where the server reaches it, `HOST:PORT`. Throws `NODE_NOT_FOUND`. As it should be already is success, without an event. */
  setAddress(id: string, address: string, event: AuditEvent): Promise<NodeRecord>;
  /** Remembers which certificate the node has. `event`: of a renewal; null: it was only looked at. False: there is no such node, or it is lost; nothing is written. */
  setCertificate(id: string, certificate: SeenCertificate, event: AuditEvent | null): Promise<boolean>;
  /**
   * Gives a node up as lost for ever, at the time of the event: no run of it begins or renews its lease any more, so that nothing begins on it. Lost already changes nothing, without an event. Throws `NODE_NOT_FOUND`, and
   * `NODE_IN_USE` while its lease holds.
   */
  giveUp(id: string, event: AuditEvent): Promise<NodeRecord>;
  /**
   * Forgets a node for good: its id is never given again. Throws `NODE_NOT_FOUND`, and `NODE_IN_USE` while its lease holds, it has disks in any state that are not lost, or sandboxes that have not
   * ended.
   */
  forget(id: string, event: AuditEvent): Promise<void>;
  /** Those that were not told yet that they are forgotten. */
  listForgotten(): Promise<readonly ForgottenNode[]>;
  /** The node was told that it is forgotten: it is listed no more. Repeating it changes nothing. */
  setTold(id: string): Promise<void>;
}

/** Of a certificate that a node has. */
export interface SeenCertificate {
  readonly untilMs: number;
  /** The number of the authority that has signed it. */
  readonly authority: number;
  /** The number of the oldest authority that the node was told to believe with it. Null: it was only looked at, which does not show that. */
  readonly oldestAuthority: number | null;
}

/** A certificate with its key, both PEM; the key is PKCS #8. */
export interface AuthorityKeys {
  readonly certificate: string;
  readonly privateKey: string;
}

/** What signs the certificates of the installation's nodes and servers. There is one, and a second one while it is being renewed. */
export interface Authority {
  /** From 1 on, in the order in which they were made. */
  readonly number: number;
  /** PEM. */
  readonly certificate: string;
  /** PEM, PKCS #8. Null: it was retired. It signs nothing, and is not believed; its certificate says whose the certificates are that it has signed. */
  readonly privateKey: string | null;
}

/** `refused`: it would lock out these nodes, whose certificate is not known to be of the newest authority. `stale`: it is not the older one of two. */
export type RetireOutcome =
  | { readonly kind: "retired" | "stale" }
  | { readonly kind: "refused"; readonly nodeIds: readonly string[] };

/** With it one machine joins as a node, once, until it expires. */
export interface JoinToken {
  readonly id: string;
  /** The only region that the node may have; null: those that it says. */
  readonly region: string | null;
  readonly createdAtMs: number;
  readonly expiresAtMs: number;
  /** Who used it; null: nobody yet. */
  readonly nodeId: string | null;
}

/** A machine that joins. */
export interface Joining {
  /** The id that the node gets, unless the machine has joined with this token before. */
  readonly nodeId: string;
  /** SHA-256 of the machine's public key, as text: who joins. */
  readonly keyFingerprint: string;
  /** Where the server reaches it: host and port. */
  readonly address: string;
  /** It is that node already, and has shown it: it gets no new row, and keeps all that it has. */
  readonly isNode?: boolean;
}

export type JoinOutcome =
  /** `isAgain`: the same machine had joined with this token before, and has the id that it got then. */
  | { readonly kind: "joined"; readonly node: NodeRecord; readonly token: JoinToken; readonly isAgain: boolean }
  /** `used`: by another machine. `forgotten`: the node that it made, or that it is, was forgotten or given up since; the token is not used up by it. */
  | { readonly kind: "refused"; readonly reason: "unknown" | "expired" | "used" | "forgotten" };

/** How machines become nodes of the installation. The clock of the store decides when a token expires. */
export interface JoiningStore {
  /** Also those that were retired, the oldest first. Empty before the first was made. */
  authorities(): Promise<readonly Authority[]>;
  /** Keeps the first authority unless there is one. Returns those that there are: of several who make it at once, all get the same. `event` is written by the one whose it is. */
  makeAuthority(keys: AuthorityKeys, event: AuditEvent): Promise<readonly Authority[]>;
  /** Adds an authority beside the one with the number `beside`. False: that is not the only one that was not retired; nothing is written. */
  addAuthority(keys: AuthorityKeys, beside: number, event: AuditEvent): Promise<boolean>;
  /** Retires the older one of two authorities: its key goes for good, and so do all tokens for joining, which name it. Unless `isLockingOut`, it is refused while a node on another machine would be locked out. */
  retireAuthority(number: number, isLockingOut: boolean, event: AuditEvent): Promise<RetireOutcome>;
  createToken(
    token: Pick<JoinToken, "id" | "region">,
    hash: Uint8Array,
    lifetimeMs: number,
    event: AuditEvent,
  ): Promise<JoinToken>;
  /** Those that have not expired, the newest first, used or not. */
  listTokens(): Promise<readonly JoinToken[]>;
  /** Ends a token before its time. False: there is none, or it has expired. */
  revokeToken(id: string, event: AuditEvent): Promise<boolean>;
  /**
   * Makes a node of the machine that has this token: its row, in generation 0, with its address and without a lease. The same machine may repeat it until the token
   * expires; then the address is the new one, and no further event is written. A machine that is a node already (`isNode`) keeps its row, but for the address. Which certificate it has is not known from
   * then on.
   */
  join(hash: Uint8Array, joining: Joining, event: AuditEvent): Promise<JoinOutcome>;
  /** Drops tokens that expired before this. */
  expireTokens(beforeMs: number): Promise<void>;
}

export type DiskKind = "volume" | "snapshot";
/** `creating` and `purging` are intents that a restart undoes or finishes; `deleted` can be restored until `purgeAtMs`. */
export type DiskState = "creating" | "ready" | "deleted" | "purging";
/** How a snapshot's source stood still: `clean`, it was not attached; `frozen`, it was attached and quiesced. */
export type Consistency = "clean" | "frozen";

export interface ObjectReference {
  readonly id: string;
  readonly slug: string;
}

export interface ParentReference extends ObjectReference {
  readonly kind: DiskKind | "builtin";
}

export interface NewDisk {
  readonly kind: DiskKind;
  readonly id: string;
  /**
   * The node that makes it: that of what it is made from. Null: a live node of the region, one that drains only if there is no other, and of these the one with the most
   * free bytes.
   */
  readonly owner: Owner | null;
  readonly organizationId: string;
  readonly slug: string;
  readonly region: string;
  readonly capacityBytes: number;
  readonly isBootable: boolean;
  /** Of a snapshot only. */
  readonly consistency: Consistency | null;
  /** A volume's snapshot or base image; a snapshot's source volume. Kept as recorded when the parent is deleted. */
  readonly parent: ParentReference | null;
  /** The nearest snapshot above. */
  readonly baseSnapshot: ObjectReference | null;
  /** The block image that `allocatedBytes` is measured against: what a volume was cloned from; of a snapshot, what its volume was cloned from. */
  readonly baseImageId: string | null;
  readonly labels: Labels;
  /** How often the server makes a snapshot of a volume by itself; null: never. */
  readonly everyMs: number | null;
  readonly createdAtMs: number;
}

/** Sizes of a disk, as they were when they were measured last. */
export interface DiskUsage {
  /** Bytes beyond the base image; without one, all. */
  readonly allocatedBytes: number;
  /** Bytes of all its data, shared data included. */
  readonly flattenedBytes: number;
  /** Bytes that no other disk shares: what deleting it would free. */
  readonly exclusiveBytes: number;
  /** Files, directories and links that its file system can hold. Null: not known yet. */
  readonly inodes: number | null;
  readonly usedInodes: number | null;
  /** Null: never yet, the sizes are those of what it was made from. */
  readonly usageMeasuredAtMs: number | null;
}

export interface Disk extends NewDisk, DiskUsage {
  readonly sequence: number;
  /** The node that has it, in the generation that began its creation, growth or purge. */
  readonly owner: Owner;
  readonly state: DiskState;
  /** The recorded intent of an unfinished grow. */
  readonly growToBytes: number | null;
  readonly deletedAtMs: number | null;
  readonly purgeAtMs: number | null;
  /**
   * When the node that had its image was given up; null: it was not. A snapshot that is `replicated` is as good as before, and comes back on the node that uses it next; all else is lost, and purged at
   * `purgeAtMs`.
   */
  readonly lostAtMs: number | null;
  /** Openings of a shared pool, of nodes that had it before, which may still write to it: its node shuts them out before anything else (`settleTakeOver`). */
  readonly takenFrom: readonly string[];
  /** What went wrong with it, until it is acknowledged. */
  readonly lastError: DiskError | null;
  /** Of a snapshot; a volume is `local`. */
  readonly replication: Replication;
  /** Of a volume with `everyMs`; null: it has none. */
  readonly schedule: Schedule | null;
  /** A snapshot of a schedule, which may thin it out: nobody has labelled it or asked for its upload. */
  readonly isAutomatic: boolean;
}

/** When the server makes the next snapshot of a volume by itself. */
export interface Schedule {
  /** The next try, which waits for the node where it is past. */
  readonly nextAtMs: number;
  /** Why the last try failed, for people; null: it did not, and how many have failed in a row. */
  readonly error: string | null;
  readonly attempts: number;
}

/** Volumes with a schedule, of all organizations. */
export interface ScheduleTotals {
  readonly volumes: number;
  /** Whose last try failed. */
  readonly failing: number;
  /** Whose newest replicated snapshot is older than three of its periods; of one without, the volume is. */
  readonly late: number;
  /** As of when the snapshot store has the one that it has the oldest state of; of one without, when it was created. Null: there are none. */
  readonly oldestReplicatedAtMs: number | null;
}

/**
 * Whether a snapshot is in the snapshot store: `local`, nobody asked for that; `uploading`, it is to be, or under way; `failed`, so was the last try, and there will be another; `replicated`, all of it
 * is there and was confirmed.
 */
export type ReplicationState = "local" | "uploading" | "failed" | "replicated";

/** What an upload has brought into the store. */
export interface ReplicationResult {
  /** Key of its manifest's object. */
  readonly manifest: string;
  /** What it takes in the store, chunks included that it shares with others. */
  readonly storedBytes: number;
  /** What was read of the image, and what was sent of that. */
  readonly readBytes: number;
  /** What was not read of it, because another snapshot there has the same. Absent: an older version has uploaded it, and read all. */
  readonly sharedBytes?: number;
  readonly sentBytes: number;
  /** Of the image, in hexadecimal. Absent: an older version has uploaded it. */
  readonly imageDigest?: string;
}

export interface Replication {
  readonly state: ReplicationState;
  /** When it was `replicated`; null in other states. */
  readonly atMs: number | null;
  /** Of `replicated` only. */
  readonly result: ReplicationResult | null;
  /** Of `failed` only: for people, and how many tries have failed. */
  readonly error: string | null;
  readonly attempts: number;
  /** Of `uploading` and `failed`: not tried before. Of `local`: a later one of its schedule has taken over its turn, and its upload may have begun. */
  readonly retryAtMs: number | null;
}

/** For people: what was lost or broken, and when that was found. */
export interface DiskError {
  readonly message: string;
  readonly atMs: number;
}

export interface UsageSums {
  readonly volumesBytes: number;
  readonly snapshotsBytes: number;
  /** Of both kinds: deleted, being purged. */
  readonly deletedBytes: number;
}

/** How many disks of one kind are in one state in a region of a node, and what they hold alone, as measured last. None: absent. */
export interface DiskTotal {
  readonly nodeId: string;
  readonly region: string;
  readonly kind: DiskKind;
  readonly state: DiskState;
  readonly count: number;
  readonly exclusiveBytes: number;
}

/** What is lost with a node. Deleted disks, which could be restored, count too. */
export interface NodeLoss {
  readonly volumes: number;
  /** Without a whole copy in the snapshot store. */
  readonly snapshots: number;
  /** With one: nothing of them is lost. */
  readonly replicatedSnapshots: number;
  /** Sandboxes that have not ended. */
  readonly sandboxes: number;
  /** The first volumes, by organization and slug. */
  readonly volumeNames: readonly { readonly organization: string; readonly slug: string }[];
}

export interface DiskQuery {
  readonly organizationId: string;
  readonly kind: DiskKind;
  readonly isDeleted: boolean;
  readonly limit: number;
  /** Only disks older than this sequence number: the cursor. */
  readonly beforeSequence?: number;
  /** Case-insensitive substring of the slug. */
  readonly search?: string;
  /** All must match. */
  readonly labels?: Labels;
}

/** Ties a creation to the key its client sent, so that a repeated request finds the first one's object. */
export interface IdempotencyKey {
  readonly key: string;
  readonly requestHash: Uint8Array;
}

/** The object of an earlier request with the same key, or the node that is to make this one. */
export type DiskReservation = { readonly existingId: string } | { readonly existingId: null; readonly owner: Owner };

/** Lines of the trail for a disk that changes its node. */
export interface TakeOverEvents {
  readonly disk: AuditEvent;
  readonly sandbox: (sandbox: SandboxRecord) => AuditEvent;
}

export interface DiskStore {
  /**
   * Records the intent to create: the slug is taken from here on. Throws `SLUG_ALREADY_IN_USE`. With a key, one used before returns the
   * object id of its first request instead of inserting, or throws `IDEMPOTENCY_KEY_REUSED` when the request differs. Throws `NODE_UNAVAILABLE` when a node is to be
   * chosen and none of the region is live and reachable, and `SNAPSHOT_NOT_FOUND` when the snapshot that it is made from is not ready any more.
   */
  reserve(disk: NewDisk, key?: IdempotencyKey | null, choice?: NodeChoice): Promise<DiskReservation>;
  /** `creating` to `ready`: the creation is acknowledged. Throws `*_NOT_FOUND` when it is not `creating` any more. */
  commit(
    id: string,
    values: { readonly consistency: Consistency | null } & DiskUsage,
    event: AuditEvent,
  ): Promise<Disk>;
  /**
   * `creating` to `purging`, with which slug and idempotency key are free: comes before the bytes of a creation that failed are deleted, since a
   * commit that failed may have happened. Resolves to the disk, unchanged, when it did. Absent or `purging` already is success.
   */
  withdraw(id: string): Promise<Disk | null>;
  /** Forgets a disk in `purging` whose bytes are gone, and its idempotency key. An undone creation has no event. Absent is success. */
  forget(id: string, event: AuditEvent | null): Promise<void>;
  /** A live disk of the organization by id or slug. */
  find(organizationId: string, kind: DiskKind, idOrSlug: string): Promise<Disk | null>;
  /** Any disk by id, whatever its state. */
  get(id: string): Promise<Disk | null>;
  list(query: DiskQuery): Promise<readonly Disk[]>;
  /** Volumes and snapshots made from this one, directly or through others, oldest first; at most `limit`. */
  descendants(organizationId: string, id: string, limit: number): Promise<readonly Disk[]>;
  /** `ready` to `deleted`: the slug is free. Throws `VOLUME_IN_USE` when it is attached, and `*_NOT_FOUND` when it is not ready. */
  delete(id: string, nowMs: number, purgeAtMs: number, event: AuditEvent): Promise<void>;
  /** `deleted` to `ready` under `slug`. Throws `SLUG_ALREADY_IN_USE` when another has it, `*_NOT_FOUND` when it is not deleted, or lost. */
  restore(id: string, slug: string, event: AuditEvent): Promise<Disk>;
  /** A snapshot of a schedule stays from then on. */
  setLabels(id: string, labels: Labels, event: AuditEvent): Promise<Disk>;
  /** Records what went wrong with a disk in any state; it replaces what is recorded. Absent is success, without an event. */
  recordError(id: string, error: DiskError, event: AuditEvent): Promise<void>;
  /** Forgets what went wrong with a ready disk. Throws `*_NOT_FOUND`. Nothing recorded is success, without an event. */
  acknowledgeError(id: string, event: AuditEvent): Promise<Disk>;
  /** Remembers a measurement, unless a later one is known. */
  setUsage(id: string, usage: DiskUsage): Promise<void>;
  /** Ready disks of these regions of the node that were measured before this or never, those first whose turn is longest due. */
  listUnmeasured(nodeId: string, regions: readonly string[], beforeMs: number, limit: number): Promise<readonly Disk[]>;
  /** Records the intent to grow. Throws `VOLUME_IN_USE` when it is attached, and `NODE_UNAVAILABLE` when another node has it by now, or its node has not taken it over yet. */
  beginGrow(owner: Owner, id: string, growToBytes: number): Promise<void>;
  finishGrow(id: string, usage: DiskUsage, event: AuditEvent): Promise<Disk>;
  cancelGrow(id: string): Promise<void>;
  /** `deleted` to `purging`, for every disk of the node whose time has come; returns all of the node that are purging. */
  beginPurge(owner: Owner, nowMs: number): Promise<readonly Disk[]>;
  /** `deleted` to `purging`, before its time; purging already is success. Null when it is neither, or another node's. */
  beginPurgeOf(owner: Owner, id: string): Promise<Disk | null>;
  /** What would be lost, or is, with the node: without what lies in a shared pool, which other nodes take over. At most `nameLimit` names. */
  lossOf(nodeId: string, nameLimit: number): Promise<NodeLoss>;
  /**
   * Records that the images of disks of a node that was given up are lost, but for those in a shared pool, of at most `limit` after `afterSequence`, the oldest first: creations are withdrawn, growths forgotten, and ready disks without a
   * copy in the snapshot store are to be purged at `purgeAtMs`. `eventOf` is asked for each that its organization could see. Returns what they are now; none: there are no more. Throws `NODE_NOT_FOUND`
   * for a node that was not given up.
   */
  lose(
    nodeId: string,
    batch: {
      readonly nowMs: number;
      readonly purgeAtMs: number;
      readonly afterSequence: number;
      readonly limit: number;
    },
    eventOf: (disk: Disk) => AuditEvent,
  ): Promise<readonly Disk[]>;
  /** To `purging`, for every disk of a lost node whose time has come; returns all of them that are purging. */
  beginPurgeLost(nowMs: number): Promise<readonly Disk[]>;
  /** `deleted` to `purging`, before its time, of a disk of a lost node; purging already is success. Null when it is neither. */
  beginPurgeLostOf(id: string): Promise<Disk | null>;
  /** Gives a replicated snapshot of a lost node to another node, which is to fetch it. One that is no such snapshot any more, since another call was first, stays as it is. Throws `SNAPSHOT_NOT_FOUND`. */
  rehome(id: string, owner: Owner): Promise<Disk>;
  /**
   * Gives a disk to another node that has the same shared pool, where the latest run of its node is over: its lease has run out, or it was shut out before. From then on that run is shut out: it begins and renews nothing
   * any more. Holds of its sandboxes on the disk go, and of these sandboxes those end, as `node-lost`, that hold nothing else; `events` has the line of the disk, and is asked for that of each sandbox. On that node
   * already is success, without an event. `draining`: a volume that nobody has goes from a live node that drains, and nobody is shut out. `unsettled`: a disk that its node has not taken over yet goes on to another one, with whom that
   * has to shut out. Default: `lost`. Throws `NODE_UNAVAILABLE`, with the reason, `*_NOT_FOUND` for one that is being created or gone, and `DISK_LOST`.
   */
  takeOver(id: string, owner: Owner, nowMs: number, events: TakeOverEvents, from?: TakeOverFrom): Promise<Disk>;
  /** Those that it was taken over from are shut out. False, with nothing done: it is on another node, or was taken from others, meanwhile. */
  settleTakeOver(disk: Pick<Disk, "id" | "owner" | "takenFrom">): Promise<boolean>;
  /** Disks of the region of the node that were deleted before `beforeMs`, the oldest deletion first. `after`: only those that come after this one, the last of an earlier call. */
  listDeleted(
    nodeId: string,
    region: string,
    beforeMs: number,
    page: { readonly limit: number; readonly after: Pick<Disk, "id" | "deletedAtMs"> | null },
  ): Promise<readonly Disk[]>;
  /** Bytes that the node's disks in the region hold alone, as they were measured last, by what the disks are. */
  sumUsage(nodeId: string, region: string): Promise<UsageSums>;
  /** The disks of all organizations, counted. It takes the same time however many there are. */
  totals(): Promise<readonly DiskTotal[]>;
  /** What a start must settle: creations, purges and grows of the node that earlier generations of it had under way. */
  listUnsettled(owner: Owner): Promise<readonly Disk[]>;
  /** Ids of all disks of the node in any state, with their region, for reconciliation with the pool. */
  listIds(nodeId: string): Promise<readonly { readonly id: string; readonly region: string }[]>;
  /**
   * Asks for a ready snapshot to be replicated, at once; under way or `replicated` already changes nothing, but that one of a schedule stays from then on. Throws `SNAPSHOT_NOT_FOUND`. The event is written when it changes something.
   */
  requestReplication(id: string, nowMs: number, event: AuditEvent | null): Promise<Disk>;
  /** Asks for every `local` ready snapshot of the region of the node to be replicated, or for those labelled `replicate=true`, but for those of schedules. Returns how many. */
  requestReplications(nodeId: string, region: string, which: "all" | "labelled", nowMs: number): Promise<number>;
  /** Ready snapshots of these regions of the node that are to be replicated and whose time has come, those first that have waited longest. */
  listDueReplications(
    nodeId: string,
    regions: readonly string[],
    nowMs: number,
    limit: number,
  ): Promise<readonly Disk[]>;
  /** `replicated`, also when nobody asks for it any more; that already changes nothing. Throws `SNAPSHOT_NOT_FOUND` when it is being purged or gone; a deleted one can be restored. */
  finishReplication(id: string, result: ReplicationResult, nowMs: number, event: AuditEvent): Promise<void>;
  /** Makes a snapshot wait for its upload again whose copy was found damaged. False, without an event: it is not `replicated`, or gone. */
  renewReplication(id: string, nowMs: number, event: AuditEvent): Promise<boolean>;
  /** `failed`, to be tried again at that time. Gone, or `replicated`, is success. Of one whose turn a later snapshot of its schedule has taken over, that one is `failed`: it is what is tried again. */
  failReplication(id: string, error: string, retryAtMs: number): Promise<void>;
  /** Gives a ready volume a schedule, whose first snapshot is due at once, or takes it away (null). As it is already is success, without an event. Throws `VOLUME_NOT_FOUND`. */
  setSchedule(id: string, everyMs: number | null, nowMs: number, event: AuditEvent): Promise<Disk>;
  /** Ready volumes of these regions of the node whose schedule wants a snapshot, those first that have waited longest. One that is due much later than its period is due: the clock was ahead once. */
  listScheduled(nodeId: string, regions: readonly string[], nowMs: number, limit: number): Promise<readonly Disk[]>;
  /**
   * As `reserve`, for a snapshot of its parent's schedule at its `createdAtMs`. False, with nothing done: none is due, since another server made it, or is just making it. `isReplicated`: it is to be uploaded. Its commit says when the next one
   * is due, a period after its `createdAtMs`, and takes over the turn of earlier ones of the schedule that wait for their upload, which are `local` then: of each schedule one waits at a time. Throws `SLUG_ALREADY_IN_USE`.
   */
  reserveScheduled(snapshot: NewDisk & { readonly owner: Owner }, isReplicated: boolean): Promise<boolean>;
  /** The schedule's snapshot was not made, and is tried again at that time. Without a schedule it is success. */
  failScheduled(volumeId: string, error: string, retryAtMs: number): Promise<void>;
  /** Volumes, also those that are gone, that have ready snapshots of a schedule: ids greater than `after`, in their order. */
  listThinnable(after: string, limit: number): Promise<readonly string[]>;
  /** Ready snapshots of a volume in the order in which they were made. */
  listSnapshots(volumeId: string): Promise<readonly Disk[]>;
  /**
   * Deletes a ready snapshot of a schedule, to be purged at once. False, with nothing done: it is of no schedule any more, waits for its upload, a volume was made from it, or, unless its volume is gone, no later snapshot of the volume
   * is ready that is replicated if this one is.
   */
  thin(id: string, nowMs: number, event: AuditEvent): Promise<boolean>;
  /** The newest replicated ready snapshot of the same volume, on the same node, that is older than this one; null: there is none. */
  replicaBefore(snapshotId: string): Promise<Disk | null>;
  /** When the newest replicated ready snapshot of each of these volumes was taken; of those that have one. */
  replicatedStates(volumeIds: readonly string[]): Promise<ReadonlyMap<string, number>>;
  scheduleTotals(nowMs: number): Promise<ScheduleTotals>;
  /** Drops idempotency keys older than this. */
  expireIdempotencyKeys(beforeMs: number): Promise<void>;
}

export type SandboxStatus = "starting" | "running" | "stopping" | "stopped";

export interface NewSandbox {
  readonly id: string;
  readonly organizationId: string;
  readonly region: string;
  readonly labels: Labels;
  readonly memoryMib: number;
  readonly createdAtMs: number;
  /** End of a duration sandbox; null for a session. */
  readonly stopAtMs: number | null;
}

export interface SandboxRecord extends NewSandbox {
  readonly sequence: number;
  /** The node that runs it, in the generation that does. */
  readonly owner: Owner;
  readonly status: SandboxStatus;
  /** For example `killed`, `timeout`, `primary-left`, `server-restart`, `exited`, `out-of-memory`. */
  readonly stopReason: string | null;
  readonly stoppedAtMs: number | null;
  /** Until when a session outlives its creator's connection; null: it was not extended. */
  readonly keepUntilMs: number | null;
  /** What went wrong with its volumes, found at its end: sentences for people. */
  readonly damages: readonly string[];
}

/** A sandbox's use of a volume: for itself alone, or shared with other readers. */
export interface Hold {
  readonly volumeId: string;
  readonly isReadOnly: boolean;
}

/** What became of a reservation, as data: the caller may wait for a holder that is ending, and says what would help by its settings. */
export type ReserveOutcome =
  /** `owner`: the node that is to run it. */
  | { readonly kind: "reserved"; readonly owner: Owner }
  | { readonly kind: "held"; readonly volumeId: string; readonly holders: readonly SandboxRecord[] }
  | { readonly kind: "limit"; readonly live: number }
  /** No node has all of these disks. */
  | { readonly kind: "scattered"; readonly disks: readonly DiskPlace[] }
  /** None of the nodes that could run it is live and reachable. */
  | { readonly kind: "unavailable"; readonly nodes: readonly NodeRecord[] }
  /** Those that are live and reachable drain. */
  | { readonly kind: "draining"; readonly nodes: readonly NodeRecord[] }
  /** `isKept`: there are places left, for organizations with fewer sandboxes than this one. `places` and `kept`: how many there are on all nodes that could run it. */
  | {
      readonly kind: "full";
      readonly isKept: boolean;
      readonly places: number;
      readonly kept: number;
      readonly obstacles: readonly NodeObstacle[];
    }
  /** A node has places left, and none more memory than this. */
  | { readonly kind: "memory"; readonly freeMib: number; readonly obstacles: readonly NodeObstacle[] };

/** Why a node of those that have all disks and the region does not run the sandbox. `kept`: its last places are kept for other organizations; `memory`: it has a place, and not that much memory. */
export interface NodeObstacle {
  readonly nodeId: string;
  readonly obstacle: "unavailable" | "draining" | "full" | "kept" | "memory";
}

/** Which node has a disk. */
export interface DiskPlace {
  readonly id: string;
  readonly slug: string;
  readonly nodeId: string;
}

/** How many sandboxes an organization may have live. How many a node may is in the node's capacity. */
export interface SandboxPlaces {
  readonly perOrganization: number;
  /**
   * The last places of each node, which only organizations with fewer than `keptEach` sandboxes get, where there is more than one organization. Null: a tenth of its
   * places, rounded up. It is never all of them.
   */
  readonly kept: number | null;
  readonly keptEach: number;
}

/** What the caller knows of nodes that their rows do not say. */
export interface NodeChoice {
  /** The node in the caller's own process: it is live whatever its lease says. Throws `NODE_UNAVAILABLE` when that has begun again since. Default: none. */
  readonly own?: Owner | null;
  /** Nodes that the caller cannot reach: they are not chosen although their lease may hold still. Default: none. */
  readonly unreachable?: readonly string[];
}

/** What decides on the node of a sandbox beside the volumes that it holds. */
export interface SandboxPlacing extends NodeChoice {
  /** The snapshot that its root is made from, which is on the node that has it. Default: none, a base image is on each node. */
  readonly rootSnapshotId?: string | null;
  /** Nodes that do not have the base image of its root: they are chosen last. Default: none. */
  readonly withoutRoot?: readonly string[];
}

export interface SandboxStore {
  /**
   * One transaction: the choice of the node, the sandbox row in `starting`, its holds, its part of the node's capacity, and the limits. The node is a live one of the region
   * that does not drain, has all the disks, and room; of several one that has the root, and of these the one whose sandboxes have the least memory, and then the fewest places. Throws `*_NOT_FOUND` for a disk
   * that is not ready.
   */
  reserve(
    sandbox: NewSandbox,
    volumes: readonly Hold[],
    places: SandboxPlaces,
    placing?: SandboxPlacing,
  ): Promise<ReserveOutcome>;
  /** `starting` to `running`: the creation is acknowledged. Fails when it is not `starting` any more. */
  commit(id: string, event: AuditEvent): Promise<SandboxRecord>;
  /** To `stopping`, with the first reason that is given. Stopped already changes nothing. */
  beginEnd(id: string, stopReason: StopReason): Promise<void>;
  setStopAt(id: string, stopAtMs: number): Promise<void>;
  /** Extends a session. An earlier time than it has changes nothing. */
  setKeepUntil(id: string, keepUntilMs: number): Promise<void>;
  /** `stopped`, and its holds and its part of the node's capacity are free. Repeating it changes nothing. */
  finish(
    id: string,
    stopReason: StopReason,
    nowMs: number,
    event: AuditEvent,
    damages?: readonly string[],
  ): Promise<void>;
  get(organizationId: string, id: string): Promise<SandboxRecord | null>;
  /** Live ones and the newest stopped ones, at most `limit` in all. */
  list(organizationId: string, limit: number, labels?: Labels): Promise<readonly SandboxRecord[]>;
  /** Those not `stopped`, of all organizations, that earlier generations of the node ran: what a start must end. */
  listLeft(owner: Owner): Promise<readonly SandboxRecord[]>;
  /** Those not `stopped`, of all organizations, that this generation of the node runs: what a server goes on with when it connects to it. */
  listRunning(owner: Owner): Promise<readonly SandboxRecord[]>;
  holds(sandboxId: string): Promise<readonly Hold[]>;
  /** Who holds the volume now. */
  holders(volumeId: string): Promise<readonly { readonly sandboxId: string; readonly isReadOnly: boolean }[]>;
  /** The sandbox that holds each of these volumes for itself alone, by volume id; volumes without one are absent. */
  writers(volumeIds: readonly string[]): Promise<ReadonlyMap<string, string>>;
  /** Forgets stopped sandboxes that ended before this. */
  expire(beforeMs: number): Promise<void>;
}

export interface AuditEvent {
  readonly organizationId: string;
  readonly atMs: number;
  /** Token id, or `server`. */
  readonly actor: string;
  /** Use case, for example `volume-create`. */
  readonly verb: string;
  readonly objectId: string;
  /** `ok` or an error code. */
  readonly outcome: string;
  readonly detail: Readonly<Record<string, unknown>>;
}

/** The audit trail. Its lines are written by the changes that they tell of. */
export interface EventStore {
  /** Writes a line that tells of no change of the database, such as a pool that fills. */
  record(event: AuditEvent): Promise<void>;
  list(organizationId: string, objectId: string | null, limit: number): Promise<readonly AuditEvent[]>;
  expire(beforeMs: number): Promise<void>;
}
