/** The base class of every error that this library raises by itself. */
export abstract class SandboxSdkError extends Error {}

/** What an HTTP answer says about a failure. */
export interface ApiErrorDetails {
  /** The machine code of the error table, for example `VOLUME_IN_USE`. */
  readonly code: string;
  /** What failed and what to do, in a sentence. */
  readonly message: string;
  /** What the caller can do next, when the server says so. */
  readonly hint?: string | undefined;
  /** The id under which the server's log has the request. */
  readonly requestId?: string | undefined;
}

/**
 * An HTTP answer outside 2xx. Each status has a class of its own below, so that a program can catch exactly what it can handle;
 * `code` tells errors of one status apart.
 */
export class ApiError extends SandboxSdkError {
  /** The HTTP status. */
  readonly status: number;
  /** The machine code, for example `SLUG_ALREADY_IN_USE`. `INVALID_RESPONSE_BODY` when the answer was not an error document. */
  readonly code: string;
  /** The id under which the server's log has the request. */
  readonly requestId: string | undefined;
  /** What the caller can do next, when the server says so. */
  readonly hint: string | undefined;

  constructor(status: number, code: string, message: string, requestId?: string, hint?: string) {
    super(message);
    this.name = new.target.name;
    this.status = status;
    this.code = code;
    this.requestId = requestId;
    this.hint = hint;
  }

  /** The same as {@linkcode requestId}. */
  get traceId(): string | undefined {
    return this.requestId;
  }
}

/** 400: the request breaks a rule that the message names. */
export class BadRequestError extends ApiError {}
/** 401: no valid token. */
export class AuthenticationError extends ApiError {}
/** 401 with the code `INVALID_TOKEN`: the token is unknown, revoked or expired. */
export class InvalidTokenError extends AuthenticationError {}
/** 403: the token may not do this. */
export class PermissionDeniedError extends ApiError {}
/** 404: no such object in this organization. */
export class NotFoundError extends ApiError {}
/** 409: the object's present state forbids it, for example a slug that is taken or a volume that is attached. */
export class ConflictError extends ApiError {}
/** 413: the request is larger than the server's limit. */
export class PayloadTooLargeError extends ApiError {}
/** 429: a limit on the number of requests or of running sandboxes is reached. */
export class TooManyRequestsError extends ApiError {}
/** Any 5xx without a class of its own. */
export class ServerError extends ApiError {}
/** 501: the server does not offer this. */
export class NotSupportedError extends ServerError {}
/** 503: the server is starting, stopping or overloaded. */
export class ServiceUnavailableError extends ServerError {}
/** 507: the storage pool is full. */
export class InsufficientStorageError extends ServerError {}

const CLASS_BY_STATUS: ReadonlyMap<number, typeof ApiError> = new Map<number, typeof ApiError>([
  [400, BadRequestError],
  [401, AuthenticationError],
  [403, PermissionDeniedError],
  [404, NotFoundError],
  [409, ConflictError],
  [413, PayloadTooLargeError],
  [429, TooManyRequestsError],
  [501, NotSupportedError],
  [503, ServiceUnavailableError],
  [507, InsufficientStorageError],
]);

/** Makes the error whose class belongs to the status. */
export function apiError(status: number, details: ApiErrorDetails): ApiError {
  const statusClass = CLASS_BY_STATUS.get(status) ?? (status >= 500 ? ServerError : ApiError);
  const errorClass = status === 401 && details.code === "INVALID_TOKEN" ? InvalidTokenError : statusClass;
  return new errorClass(status, details.code, details.message, details.requestId, details.hint);
}

/** The server refused to create a sandbox or to connect to one. `status` and `code` say why. */
export class ConnectionEstablishmentError extends ApiError {}

/** Ending a sandbox failed. */
export class SandboxKillError extends ApiError {
  /** The body of the answer. */
  readonly response: string;

  constructor(error: ApiError, response: string) {
    super(error.status, error.code, `Cannot kill the sandbox: ${error.message}`, error.requestId, error.hint);
    this.response = response;
  }
}

/** The server could not be reached, or the connection broke before an answer arrived. `cause` has the operating system's error. */
export class NetworkError extends SandboxSdkError {
  constructor(message: string, options?: { readonly cause?: unknown }) {
    super(message, options);
    this.name = "NetworkError";
  }
}

/** No answer arrived within the request's time limit. */
export class RequestTimeoutError extends NetworkError {
  constructor(message: string) {
    super(message);
    this.name = "RequestTimeoutError";
  }
}

/** How a sandbox ended, as the server says. */
export interface SandboxEnd {
  /** When it ended; `null` when the server was not asked, since this program itself ended it. */
  readonly stoppedAt: Date | null;
  /** Why: `"killed"`, `"timeout"` and so on; `null` when the server does not say. */
  readonly stopReason: string | null;
}

/** The connection to the sandbox is closed; the call did not finish, and whether it took effect is unknown. */
export class ConnectionClosedError extends SandboxSdkError {
  /** The WebSocket close code (RFC 6455, section 7.4), or `undefined` when the connection was closed before the call. */
  readonly code: number | undefined;
  /** The reason that the other side gave. */
  readonly reason: string | undefined;
  /** When the sandbox ended; `null` when it was only the connection, when the server could not be asked, or when `sandbox.kill()` of this program ended it. */
  readonly stoppedAt: Date | null;
  /** Why the sandbox ended; `null` when it was only the connection, or when the server could not be asked or does not say. */
  readonly stopReason: string | null;

  constructor(code?: number, reason?: string, end?: SandboxEnd) {
    super(closedMessage(code, reason, end));
    this.name = "ConnectionClosedError";
    this.code = code;
    this.reason = reason;
    this.stoppedAt = end?.stoppedAt ?? null;
    this.stopReason = end?.stopReason ?? null;
  }
}

function closedMessage(code: number | undefined, reason: string | undefined, end: SandboxEnd | undefined): string {
  if (code === undefined) return "Connection to the sandbox was already closed";
  const details = `code: ${code}${reason ? `, reason: ${reason}` : ""}`;
  if (end === undefined) return `Connection closed (${details})`;
  const why = end.stopReason === null ? "" : ` (${end.stopReason})`;
  const when = end.stoppedAt === null ? "" : ` at ${end.stoppedAt.toISOString()}`;
  return `The sandbox ended${when}${why}; connection closed (${details})`;
}

/** The sandbox refused a call as such: unknown method, wrong parameters or a failure inside it (protocol.md 3.3). */
export class RpcError extends SandboxSdkError {
  /** The JSON-RPC error code. */
  readonly code: number;
  /** More about the error, as the sandbox sent it. */
  readonly data: unknown;

  constructor(code: number, message: string, data?: unknown) {
    super(message);
    this.name = "RpcError";
    this.code = code;
    this.data = data;
  }
}

/** A duration is not of the form `"90s"` or `"5m"`, or not above zero. */
export class InvalidTimeoutError extends SandboxSdkError {
  constructor(message: string) {
    super(message);
    this.name = "InvalidTimeoutError";
  }
}

/** A memory size is malformed or outside 768 MiB to 4096 MiB. */
export class InvalidMemoryError extends SandboxSdkError {
  constructor(message: string) {
    super(message);
    this.name = "InvalidMemoryError";
  }
}

/** No token was given, neither as an option nor in the environment. */
export class MissingTokenError extends SandboxSdkError {
  constructor() {
    super(
      "No access token: pass the option `token`, or set CAISSON_TOKEN or DENO_DEPLOY_TOKEN " +
        '(for a server on this machine: eval "$(caisson env)")',
    );
    this.name = "MissingTokenError";
  }
}

/** A personal token (`ddp_`) was given without an organization. */
export class MissingOrgError extends SandboxSdkError {
  constructor() {
    super("The token is not an organization token: pass the option `org`, or set CAISSON_ORG or DENO_DEPLOY_ORG");
    this.name = "MissingOrgError";
  }
}

/** The origin of the API is not a plain `http` or `https` origin without a trailing slash. */
export class InvalidApiEndpoint extends SandboxSdkError {
  constructor(endpoint: string) {
    super(
      `Invalid API endpoint ${JSON.stringify(endpoint)}: give an http or https origin without a path or a trailing "/"`,
    );
    this.name = "InvalidApiEndpoint";
  }
}

/** The origin for sandboxes is not a plain `http` or `https` origin without a trailing slash. */
export class InvalidSandboxEndpoint extends SandboxSdkError {
  constructor(endpoint: string) {
    super(
      `Invalid sandbox endpoint ${JSON.stringify(endpoint)}: give an http or https origin without a path or a trailing "/"`,
    );
    this.name = "InvalidSandboxEndpoint";
  }
}
