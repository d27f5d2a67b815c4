import type { ErrorObject } from "@caisson/protocol/rpc";

/** Built-in classes that an error object may name (protocol.md 3.4). */
const BUILT_IN: Readonly<Record<string, new (message: string) => Error>> = {
  Error,
  TypeError,
  ReferenceError,
  SyntaxError,
  RangeError,
  URIError,
  EvalError,
};

/** Names of the classes in `Deno.errors`, which programs compare with `error.name` or, on Deno, with `instanceof`. */
const DENO_ERRORS = [
  "NotFound",
  "PermissionDenied",
  "ConnectionRefused",
  "ConnectionReset",
  "ConnectionAborted",
  "NotConnected",
  "AddrInUse",
  "AddrNotAvailable",
  "BrokenPipe",
  "AlreadyExists",
  "InvalidData",
  "TimedOut",
  "Interrupted",
  "WriteZero",
  "WouldBlock",
  "UnexpectedEof",
  "BadResource",
  "Http",
  "Busy",
  "NotSupported",
  "FilesystemLoop",
  "IsADirectory",
  "NetworkUnreachable",
  "NotADirectory",
  "NotCapable",
] as const;

/** The name of a class in {@linkcode errors}. */
export type SandboxErrorName = (typeof DENO_ERRORS)[number];

type ErrorClass = new (message: string) => Error;

/**
 * Classes of the errors that calls inside a sandbox raise, by name: `error instanceof errors.NotFound`. On Deno they are the classes
 * of `Deno.errors` themselves. `error.code` has the name of the errno, for example `ENOENT`.
 */
export const errors: Readonly<Record<SandboxErrorName, ErrorClass>> = makeErrorClasses();

function makeErrorClasses(): Readonly<Record<SandboxErrorName, ErrorClass>> {
  const native = (globalThis as { Deno?: { errors?: Record<string, ErrorClass> } }).Deno?.errors ?? {};
  const classes = DENO_ERRORS.map((name) => [name, native[name] ?? makeErrorClass(name)] as const);
  return Object.fromEntries(classes) as Record<SandboxErrorName, ErrorClass>;
}

function makeErrorClass(name: string): ErrorClass {
  const errorClass = class extends Error {};
  Object.defineProperty(errorClass, "name", { value: name });
  Object.defineProperty(errorClass.prototype, "name", { value: name, configurable: true, writable: true });
  return errorClass;
}

/** Rebuilds the error that an error object describes. With `origin`, its stack goes on where that error was made. */
export function toError(value: ErrorObject | null | undefined, origin?: Error): Error {
  if (value === null || value === undefined) return new Error("The sandbox reported an error without details");
  const error = construct(value);
  if (typeof value.code === "string") {
    Object.defineProperty(error, "code", { value: value.code, enumerable: true, configurable: true, writable: true });
  }
  if (value.cause)
    Object.defineProperty(error, "cause", { value: toError(value.cause), configurable: true, writable: true });
  if (value.stack) error.stack = value.stack;
  else if (origin !== undefined) error.stack = `${error.name}: ${error.message}`;
  return origin === undefined ? error : withOrigin(error, origin);
}

/** Appends the caller's frames to the stack, since the error itself is made when the answer arrives, far from the call. */
export function withOrigin<E extends Error>(error: E, origin: Error): E {
  const frames = (origin.stack ?? "").split("\n").filter((line) => /^\s+at /.test(line));
  error.stack = [error.stack ?? `${error.name}: ${error.message}`, ...frames.slice(1)].join("\n");
  return error;
}

function construct(value: ErrorObject): Error {
  const { constructorName, message } = value;
  if (constructorName === "DOMException") return new DOMException(message, value.name ?? "Error");
  if (constructorName === "AggregateError")
    return new AggregateError(
      (value.errors ?? []).map((inner) => toError(inner)),
      message,
    );
  if (constructorName === "SuppressedError") {
    const fields = { name: "SuppressedError", error: toError(value.error), suppressed: toError(value.suppressed) };
    return Object.assign(new Error(message), fields);
  }
  const errorClass = BUILT_IN[constructorName] ?? errors[constructorName as SandboxErrorName];
  return errorClass === undefined ? new Error(message) : new errorClass(message);
}

/** Describes an error of the caller's program for the sandbox, for example the reason of a cancellation. Carries no stack. */
export function toErrorObject(reason: unknown): ErrorObject | null {
  if (reason === undefined || reason === null) return null;
  if (!(reason instanceof Error)) return { constructorName: "Error", message: String(reason), code: null, stack: null };
  const code = "code" in reason && typeof reason.code === "string" ? reason.code : null;
  return { constructorName: reason.constructor.name, message: reason.message, name: reason.name, code, stack: null };
}
