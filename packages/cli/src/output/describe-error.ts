import { CaissonError, ERRORS } from "@caisson/model";
import type * as Sdk from "@caisson/sdk";
import { CommanderError } from "commander";
import { CliError } from "../cli-error.ts";
import { EXIT, type ExitCode } from "../exit-codes.ts";
import { describeSystemError } from "./system-error.ts";

/** An error as it is shown, in text and in JSON. */
export interface ErrorDescription {
  readonly code: string;
  readonly message: string;
  /** What to do next. */
  readonly hint: string | undefined;
  /** Finds the request in the server's log. */
  readonly traceId: string | undefined;
  readonly exitCode: ExitCode;
}

/** Turns whatever was thrown into something to show. The library is given only when it was loaded: its classes cannot occur otherwise. */
export function describeError(error: unknown, sdk: typeof Sdk | undefined): ErrorDescription {
  if (error instanceof CliError) return { ...pick(error), hint: error.hint, exitCode: error.exitCode };
  if (error instanceof CommanderError) return describeUsage(error);
  if (error instanceof CaissonError) {
    return { ...pick(error), hint: ERRORS[error.code].recovery, exitCode: exitCodeOfStatus(error.status) };
  }
  if (sdk !== undefined && error instanceof sdk.SandboxSdkError) return describeSdkError(error, sdk);
  return describeOther(error);
}

function pick(error: { readonly code: string; readonly message: string }) {
  return { code: error.code, message: error.message, traceId: undefined };
}

/** The framework's messages read `error: unknown command 'lst'`, then a line with what was probably meant. */
function describeUsage(error: CommanderError): ErrorDescription {
  const [first = "", ...rest] = error.message.split("\n");
  const suggestion = rest.map((line) => line.replace(/^\(|\)$/g, "")).join(" ");
  return {
    code: "USAGE",
    message: capitalize(first.replace(/^error: /, "")),
    hint: suggestion === "" ? "Add --help to see how the command is used." : suggestion,
    traceId: undefined,
    exitCode: EXIT.usage,
  };
}

function describeSdkError(error: Sdk.SandboxSdkError, sdk: typeof Sdk): ErrorDescription {
  const { message } = error;
  const local = { message, traceId: undefined };
  if (error instanceof sdk.ApiError) {
    const hint = error.hint ?? (isKnownCode(error.code) ? ERRORS[error.code].recovery : undefined);
    return { code: error.code, message, hint, traceId: error.traceId, exitCode: exitCodeOfStatus(error.status) };
  }
  if (error instanceof sdk.MissingTokenError) {
    const hint =
      'For a server on this machine: eval "$(caisson env)". For another one: caisson switch NAME --endpoint URL --token TOKEN.';
    return {
      code: "NOT_AUTHENTICATED",
      message: "No access token is set",
      hint,
      traceId: undefined,
      exitCode: EXIT.authentication,
    };
  }
  if (error instanceof sdk.MissingOrgError) {
    const hint = "Add --org ORGANIZATION, or set CAISSON_ORG.";
    return { ...local, code: "ORG_REQUIRED", hint, exitCode: EXIT.authentication };
  }
  if (error instanceof sdk.NetworkError) {
    const tls = describeTls(error);
    if (tls !== null) return { ...local, ...tls, code: "NETWORK", exitCode: EXIT.backend };
    const hint = "Start a server with `caisson up`, or check the endpoint.";
    return { ...local, code: "NETWORK", hint, exitCode: EXIT.backend };
  }
  if (error instanceof sdk.ConnectionClosedError) {
    const hint = "The sandbox ended or the server stopped. See `caisson list`.";
    return { ...local, code: "CONNECTION_CLOSED", hint, exitCode: EXIT.backend };
  }
  if (error instanceof sdk.RpcError) return { ...local, code: "RPC", hint: undefined, exitCode: EXIT.backend };
  return { ...local, code: "USAGE", hint: undefined, exitCode: EXIT.usage };
}

/** What a connection with TLS failed at, in place of what the library for it says. The reason is one or two levels down. */
function describeTls(error: Error): Pick<ErrorDescription, "message" | "hint"> | null {
  const origin = /https:\/\/[^\s/]+?(?=[:,]? |$)/.exec(error.message)?.[0] ?? "the server";
  for (let cause: unknown = error.cause; cause instanceof Error; cause = cause.cause) {
    const code = "code" in cause ? String(cause.code) : "";
    if (code.startsWith("ERR_SSL_") || code === "EPROTO") {
      const hint = `Write the endpoint as ${origin.replace("https:", "http:")}`;
      return { message: `Cannot reach ${origin}: what answers there does not speak TLS`, hint };
    }
    if (/CERT|SIGNATURE|ISSUER/.test(code)) {
      const hint = "If it is your own, name the certificate of its authority in NODE_EXTRA_CA_CERTS.";
      return { message: `Cannot trust ${origin}: ${cause.message}`, hint };
    }
  }
  return null;
}

function describeOther(error: unknown): ErrorDescription {
  if (!(error instanceof Error)) {
    return { code: "ERROR", message: String(error), hint: undefined, traceId: undefined, exitCode: EXIT.failure };
  }
  const code = "code" in error && typeof error.code === "string" ? error.code : "ERROR";
  const exitCode = code === "ENOENT" ? EXIT.notFound : EXIT.failure;
  return { code, message: describeSystemError(error) ?? error.message, hint: undefined, traceId: undefined, exitCode };
}

function isKnownCode(code: string): code is keyof typeof ERRORS {
  return code in ERRORS;
}

function exitCodeOfStatus(status: number): ExitCode {
  switch (status) {
    case 400:
    case 413:
      return EXIT.usage;
    case 401:
    case 403:
      return EXIT.authentication;
    case 404:
      return EXIT.notFound;
    case 409:
      return EXIT.conflict;
    default:
      return status === 429 || status >= 500 ? EXIT.backend : EXIT.failure;
  }
}

function capitalize(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
