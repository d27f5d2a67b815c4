import type { ErrorObject } from "@caisson/protocol/rpc";

/**
 * A failure that a client sees as the result of a method: `{"error": {...}}` (protocol.md 3.4). `constructorName` picks the class that
 * clients raise; `code` is an errno name.
 */
export class AppError extends Error {
  readonly constructorName: string;
  readonly code: string | undefined;

  constructor(constructorName: string, message: string, code?: string) {
    super(message);
    this.name = constructorName;
    this.constructorName = constructorName;
    this.code = code;
  }
}

/** A failure of the client's own code, as a REPL throws it: class, message and stack are passed on as they were. */
export class RemoteError extends Error {
  readonly errorObject: ErrorObject;

  constructor(errorObject: ErrorObject) {
    super(errorObject.message);
    this.name = "RemoteError";
    this.errorObject = errorObject;
  }
}

/** A failure of the call itself: the JSON-RPC `error` member (protocol.md 3.3). */
export class ProtocolError extends Error {
  readonly rpcCode: number;
  readonly data: unknown;

  constructor(rpcCode: number, message: string, data?: unknown) {
    super(message);
    this.name = "ProtocolError";
    this.rpcCode = rpcCode;
    this.data = data;
  }
}

/** Errno name to the class that clients raise and the kernel's text and number (protocol.md 3.4). */
const ERRNOS: Readonly<Record<string, readonly [constructorName: string, number: number, text: string]>> = {
  EPERM: ["PermissionDenied", 1, "Operation not permitted"],
  ENOENT: ["NotFound", 2, "No such file or directory"],
  EINTR: ["Interrupted", 4, "Interrupted system call"],
  EIO: ["Error", 5, "Input/output error"],
  E2BIG: ["Error", 7, "Argument list too long"],
  EBADF: ["BadResource", 9, "Bad file descriptor"],
  EAGAIN: ["WouldBlock", 11, "Resource temporarily unavailable"],
  EACCES: ["PermissionDenied", 13, "Permission denied"],
  EBUSY: ["Busy", 16, "Device or resource busy"],
  EEXIST: ["AlreadyExists", 17, "File exists"],
  EXDEV: ["Error", 18, "Invalid cross-device link"],
  ENOTDIR: ["NotADirectory", 20, "Not a directory"],
  EISDIR: ["IsADirectory", 21, "Is a directory"],
  EINVAL: ["InvalidData", 22, "Invalid argument"],
  EMFILE: ["Error", 24, "Too many open files"],
  EFBIG: ["Error", 27, "File too large"],
  ENOSPC: ["Error", 28, "No space left on device"],
  EROFS: ["Error", 30, "Read-only file system"],
  EPIPE: ["BrokenPipe", 32, "Broken pipe"],
  ENAMETOOLONG: ["Error", 36, "File name too long"],
  ENOTEMPTY: ["Error", 39, "Directory not empty"],
  ELOOP: ["FilesystemLoop", 40, "Too many levels of symbolic links"],
  EADDRINUSE: ["AddrInUse", 98, "Address already in use"],
  EADDRNOTAVAIL: ["AddrNotAvailable", 99, "Cannot assign requested address"],
  ENETUNREACH: ["NetworkUnreachable", 101, "Network is unreachable"],
  ECONNABORTED: ["ConnectionAborted", 103, "Software caused connection abort"],
  ECONNRESET: ["ConnectionReset", 104, "Connection reset by peer"],
  ENOTCONN: ["NotConnected", 107, "Transport endpoint is not connected"],
  ETIMEDOUT: ["TimedOut", 110, "Connection timed out"],
  ECONNREFUSED: ["ConnectionRefused", 111, "Connection refused"],
  EDQUOT: ["Error", 122, "Disk quota exceeded"],
};

/** Deno's own error classes that carry no `code` where the kernel's errno would be; the class says which errno it was. */
const CODE_OF_CLASS: Readonly<Record<string, string>> = {
  NotFound: "ENOENT",
  PermissionDenied: "EACCES",
  AlreadyExists: "EEXIST",
  NotADirectory: "ENOTDIR",
  IsADirectory: "EISDIR",
  FilesystemLoop: "ELOOP",
  BrokenPipe: "EPIPE",
  BadResource: "EBADF",
  ConnectionRefused: "ECONNREFUSED",
  ConnectionReset: "ECONNRESET",
  ConnectionAborted: "ECONNABORTED",
  NotConnected: "ENOTCONN",
  AddrInUse: "EADDRINUSE",
  AddrNotAvailable: "EADDRNOTAVAIL",
  TimedOut: "ETIMEDOUT",
  WouldBlock: "EAGAIN",
  Interrupted: "EINTR",
  NetworkUnreachable: "ENETUNREACH",
};

/** Classes that both Deno and the clients know by the same name. */
const SHARED_CLASSES = new Set(
  [
    "Error TypeError ReferenceError SyntaxError RangeError URIError EvalError AggregateError DOMException SuppressedError",
    "NotFound PermissionDenied ConnectionRefused ConnectionReset ConnectionAborted NotConnected AddrInUse AddrNotAvailable BrokenPipe",
    "AlreadyExists InvalidData TimedOut Interrupted WriteZero WouldBlock UnexpectedEof BadResource Http Busy NotSupported FilesystemLoop",
    "IsADirectory NetworkUnreachable NotADirectory NotCapable",
  ]
    .join(" ")
    .split(" "),
);

/** The first of these class names, most specific first, that clients know; `Error` when they know none. */
export function sharedClass(names: readonly string[]): string {
  return names.find((name) => SHARED_CLASSES.has(name)) ?? "Error";
}

/** The name of an errno. */
export function errnoName(number: number): string {
  return Object.keys(ERRNOS).find((name) => ERRNOS[name]?.[1] === number) ?? `errno ${number}`;
}

/** Makes the error for an errno name, in the recommended style `No such file or directory (os error 2): <operation detail>`. */
export function errnoError(code: string, detail: string): AppError {
  const [constructorName, number, text] = ERRNOS[code] ?? ["Error", 0, code];
  return new AppError(constructorName, `${text}${number === 0 ? "" : ` (os error ${number})`}: ${detail}`, code);
}

/** The error that an aborted operation answers with (protocol.md 3.6). */
export function abortError(): DOMException {
  return new DOMException("The operation was aborted", "AbortError");
}

const STACK_FRAME = "\n    at <sandbox>:1:1";

/**
 * The error object of any thrown value (protocol.md 3.4). An errno, from `code` or from the class, decides the class that clients raise;
 * stacks of the agent are not sent, because they would show its insides and not the caller's mistake.
 */
export function toErrorObject(error: unknown): ErrorObject {
  if (!(error instanceof Error)) return errorObject("Error", String(error), null);
  if (error instanceof AppError) return errorObject(error.constructorName, error.message, error.code ?? null);
  if (error instanceof RemoteError) return error.errorObject;
  if (error instanceof DOMException) return errorObject("DOMException", error.message, null, error.name);
  const className = error.constructor.name;
  const code = errnoOf(error, className);
  const known = code === null ? undefined : ERRNOS[code];
  const constructorName = known?.[0] ?? (SHARED_CLASSES.has(className) ? className : "Error");
  return errorObject(constructorName, error.message, code);
}

function errnoOf(error: Error, className: string): string | null {
  const code: unknown = "code" in error ? error.code : undefined;
  if (typeof code === "string") return code;
  const number = /\(os error (\d+)\)/.exec(error.message)?.[1];
  if (number !== undefined) {
    for (const [name, entry] of Object.entries(ERRNOS)) if (entry[1] === Number(number)) return name;
  }
  return CODE_OF_CLASS[className] ?? null;
}

function errorObject(
  constructorName: string,
  message: string,
  code: string | null,
  name: string | null = null,
): ErrorObject {
  return { constructorName, name, message, code, stack: `${name ?? constructorName}: ${message}${STACK_FRAME}` };
}
