import { CaissonError, ERRORS, type ErrorCode } from "@caisson/model";
import type { ExtendedError, WireError } from "@caisson/protocol";
import type { FastifyError } from "fastify";

/** Fields whose own code is kinder than `INVALID_REQUEST`. */
const FIELD_CODES: Readonly<Record<string, ErrorCode>> = {
  slug: "INVALID_SLUG",
  capacity: "INVALID_CAPACITY",
  region: "INVALID_REGION",
  labels: "INVALID_LABELS",
};

/** Fastify's own errors that a client can cause, by their code. */
const FRAMEWORK_CODES: Readonly<Record<string, ErrorCode>> = {
  FST_ERR_CTP_BODY_TOO_LARGE: "PAYLOAD_TOO_LARGE",
  FST_ERR_CTP_INVALID_JSON_BODY: "INVALID_REQUEST",
  FST_ERR_CTP_INVALID_MEDIA_TYPE: "INVALID_REQUEST",
  FST_ERR_CTP_EMPTY_JSON_BODY: "INVALID_REQUEST",
  FST_ERR_BAD_URL: "INVALID_REQUEST",
  FST_ERR_MAX_PARAM_LENGTH: "INVALID_REQUEST",
  FST_ERR_NOT_FOUND: "NOT_FOUND",
};

/** For those whose own text repeats all that the client sent, or says too little. */
const FRAMEWORK_TEXTS: Readonly<Record<string, string>> = {
  FST_ERR_BAD_URL: "The path of the request cannot be decoded: write a percent sign as %25",
  FST_ERR_MAX_PARAM_LENGTH: "A part of the path is longer than any id or slug",
  FST_ERR_CTP_INVALID_MEDIA_TYPE: "The body of a request must be JSON: send it with Content-Type: application/json",
};

/** Gives every error its place in the table: that of the first, of several that all have one. What is not in it is ours to mend, so its text stays in the log. */
export function toCaissonError(error: unknown): CaissonError {
  if (error instanceof CaissonError) return error;
  if (error instanceof AggregateError) {
    const [first, ...others]: readonly unknown[] = error.errors;
    if (first instanceof CaissonError && others.every((other) => other instanceof CaissonError))
      return new CaissonError(first.code, first.message, { cause: error });
  }
  if (isFastifyError(error)) {
    const [issue] = error.validation ?? [];
    if (issue !== undefined) {
      const missing = issue.params.requiredProperties ?? issue.params.missingProperty;
      const field = issue.instancePath.split("/")[1] ?? String(Array.isArray(missing) ? missing[0] : (missing ?? ""));
      const text = issue.instancePath === "" && field !== "" ? "is required" : (issue.message ?? "is invalid");
      const subject = field === "" ? "The request body" : `The field ${JSON.stringify(field)}`;
      return new CaissonError(FIELD_CODES[field] ?? "INVALID_REQUEST", `${subject} ${text}`, { cause: error });
    }
    const code = FRAMEWORK_CODES[error.code];
    if (code !== undefined)
      return new CaissonError(code, FRAMEWORK_TEXTS[error.code] ?? error.message, { cause: error });
    if (error.statusCode === 400) return new CaissonError("INVALID_REQUEST", error.message, { cause: error });
  }
  return new CaissonError(
    "INTERNAL_ERROR",
    "Something failed on the server: try again, and report it with the trace id if it persists",
    {
      cause: error,
    },
  );
}

/** What a client, a full house, or the state of a node explains. */
const NO_FAULTS: ReadonlySet<ErrorCode> = new Set(["NOT_SUPPORTED", "SERVER_FULL", "NODE_UNAVAILABLE"]);

/** Worth a line in the log. */
export function isServersFault({ code, status }: CaissonError): boolean {
  return status >= 500 && !NO_FAULTS.has(code);
}

export function errorBody(error: CaissonError): WireError {
  return { code: error.code, message: error.message };
}

export function extendedErrorBody(error: CaissonError, requestId: string): ExtendedError {
  return { ...errorBody(error), hint: ERRORS[error.code].recovery, request_id: requestId };
}

function isFastifyError(error: unknown): error is FastifyError {
  return error instanceof Error && "code" in error;
}
