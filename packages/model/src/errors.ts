/**
 * The one table of errors: machine code, HTTP status and what the caller does next.
 * Codes are part of the wire contract (protocol.md 2.6); GUARANTEES.md and OpenAPI are generated or checked against it.
 */
export const ERRORS = {
  INVALID_TOKEN: { status: 401, recovery: "Pass a token that `caisson tokens create` or `caisson env` printed." },
  NOT_FOUND: { status: 404, recovery: "Check the path against the API document." },
  SANDBOX_NOT_FOUND: { status: 404, recovery: "List sandboxes; a sandbox that ended cannot be used again." },
  VOLUME_NOT_FOUND: {
    status: 404,
    recovery: "List volumes; a deleted one can be restored until its retention is over.",
  },
  SNAPSHOT_NOT_FOUND: {
    status: 404,
    recovery: "List snapshots; a deleted one can be restored until its retention is over.",
  },
  NODE_NOT_FOUND: { status: 404, recovery: "List the nodes with `caisson nodes list`." },
  PREVIEW_NOT_FOUND: { status: 404, recovery: "List the previews of the sandbox; they end with it." },
  SLUG_ALREADY_IN_USE: { status: 409, recovery: "Choose another slug, or delete the object that has it." },
  VOLUME_IN_USE: { status: 409, recovery: "End the sandbox that holds the volume, or mount it read-only." },
  NODE_IN_USE: { status: 409, recovery: "Do what the message says, then forget the node." },
  VOLUME_DAMAGED: {
    status: 409,
    recovery: "Create a volume from its last snapshot, or have the server's administrator repair it with e2fsck.",
  },
  DATA_LOST: {
    status: 409,
    recovery: "The thing is done, but writes were lost: check the volume's files, then acknowledge its last error.",
  },
  IDEMPOTENCY_KEY_REUSED: { status: 409, recovery: "Use a new idempotency key for a different request." },
  INVALID_REQUEST: { status: 400, recovery: "Correct the field that the message names." },
  INVALID_SLUG: { status: 400, recovery: "Choose a slug that follows the rule in the message." },
  INVALID_CAPACITY: { status: 400, recovery: "Choose a capacity within the limits in the message." },
  INVALID_REGION: { status: 400, recovery: "Choose one of the regions in the message." },
  INVALID_CONFIG: { status: 400, recovery: "Correct the option or setting that the message names." },
  INVALID_MEMORY: { status: 400, recovery: "Choose memory within the limits in the message." },
  INVALID_LABELS: { status: 400, recovery: "Use at most 5 labels, keys up to 64 bytes and values up to 128." },
  INVALID_CURSOR: { status: 400, recovery: "Start the listing again without a cursor." },
  NOT_BOOTABLE: { status: 400, recovery: "Boot from a volume or snapshot made from `builtin:debian-13`." },
  REGION_MISMATCH: { status: 400, recovery: "Use volumes, snapshots and sandboxes of one region together." },
  INVALID_SNAPSHOT_FILE: {
    status: 422,
    recovery: "Export the snapshot again, or give a sound image; the message says what is wrong with this one.",
  },
  ORG_REQUIRED: { status: 400, recovery: "Name the organization." },
  FORBIDDEN: { status: 403, recovery: "Use a token with the right to do this." },
  PAYLOAD_TOO_LARGE: { status: 413, recovery: "Send less at once." },
  CONCURRENCY_LIMIT_EXCEEDED: { status: 429, recovery: "End a sandbox, or raise the organization's limit." },
  TOO_MANY_TRANSFERS: {
    status: 429,
    recovery: "Try again when one of the exports and imports under way is over.",
    retryAfterSeconds: 5,
  },
  NOT_SUPPORTED: { status: 501, recovery: "This server does not offer that feature." },
  SANDBOX_START_FAILED: { status: 502, recovery: "Try again; if it persists, run `caisson doctor`." },
  REGION_UNAVAILABLE: { status: 503, recovery: "Add the region to the server's settings and start it again." },
  DISK_LOST: {
    status: 409,
    recovery:
      "Delete it, and make another from a snapshot that is left or was exported: the machine that held it is gone.",
  },
  DISK_UNAVAILABLE: {
    status: 503,
    recovery: "Mount the disk that the message names, or name it in the settings again, and start the server again.",
  },
  NODE_UNAVAILABLE: {
    status: 503,
    recovery:
      "Do what the message says of the node: `caisson nodes list` shows which are live and connected, and `caisson nodes undrain` ends draining.",
    retryAfterSeconds: 5,
  },
  SERVER_FULL: {
    status: 503,
    recovery:
      "Try again when a sandbox has ended, or raise `sandboxes.max` or lower `sandboxes.kept_places` in the settings.",
    retryAfterSeconds: 5,
  },
  SNAPSHOT_BUSY: {
    status: 503,
    recovery: "Try again: clones of the snapshot are being made, and one of them is ready soon.",
    retryAfterSeconds: 5,
  },
  DATABASE_UNAVAILABLE: {
    status: 503,
    recovery: "Try again when the server's database runs; `caisson doctor` says what is wrong with it.",
    retryAfterSeconds: 5,
  },
  SNAPSHOT_STORE_UNAVAILABLE: {
    status: 503,
    recovery: "Do what the message says of the snapshot store; what is not replicated yet is tried again by itself.",
    retryAfterSeconds: 60,
  },
  SHUTTING_DOWN: { status: 503, recovery: "Try again when the server is up.", retryAfterSeconds: 5 },
  STORAGE_FULL: {
    status: 507,
    recovery: "Purge what is deleted, delete files or whole volumes for good, or enlarge the pool.",
  },
  INTERNAL_ERROR: { status: 500, recovery: "Report it with the trace id; the server's log has the cause." },
} as const satisfies Readonly<Record<string, ErrorEntry>>;

interface ErrorEntry {
  readonly status: number;
  readonly recovery: string;
  /** For what passes by itself: how long to wait before trying again. */
  readonly retryAfterSeconds?: number;
}

export type ErrorCode = keyof typeof ERRORS;

/** An error with a place in the table. The message states the action, the thing and the value, and what to do. */
export class CaissonError extends Error {
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string, options?: { readonly cause?: unknown }) {
    super(message, options);
    this.name = "CaissonError";
    this.code = code;
  }

  /** The HTTP status that goes with the code. */
  get status(): number {
    return ERRORS[this.code].status;
  }

  /** For what passes by itself: how long to wait before trying again; null for all else. */
  get retryAfterSeconds(): number | null {
    const entry: ErrorEntry = ERRORS[this.code];
    return entry.retryAfterSeconds ?? null;
  }
}

/**
 * `DATABASE_UNAVAILABLE`, and nobody knows whether the change was made: the database was lost after it had been asked to commit, and stays away.
 * Any other `CaissonError` of a change means that nothing was changed.
 */
export class UnknownOutcomeError extends CaissonError {
  constructor(message: string, options?: { readonly cause?: unknown }) {
    super("DATABASE_UNAVAILABLE", message, options);
    this.name = "UnknownOutcomeError";
  }
}

/** Whether an error says for certain that nothing was done, so that nothing needs to be undone. */
export function isRefusal(error: unknown): error is CaissonError {
  return error instanceof CaissonError && !(error instanceof UnknownOutcomeError);
}
