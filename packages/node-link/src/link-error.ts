import { CaissonError, ERRORS, type ErrorCode } from "@caisson/model";

/** An error on the wire. */
interface WireError {
  readonly message: string;
  /** Of the table of errors, or of the kernel. */
  readonly code?: string;
  readonly isCaisson: boolean;
  readonly errno?: number;
  readonly syscall?: string;
}

/** Errors of the table go over as they are, those of the kernel with their code, and all others with their message. */
export function encodeError(error: unknown): WireError {
  if (error instanceof CaissonError) return { isCaisson: true, code: error.code, message: error.message };
  if (!(error instanceof Error)) return { isCaisson: false, message: String(error) };
  const { message } = error;
  const { code, errno, syscall } = error as NodeJS.ErrnoException;
  return {
    isCaisson: false,
    message,
    ...(typeof code === "string" ? { code } : {}),
    ...(typeof errno === "number" ? { errno } : {}),
    ...(typeof syscall === "string" ? { syscall } : {}),
  };
}

export function decodeError(value: unknown): Error {
  if (typeof value !== "object" || value === null) return new Error("the node failed and did not say how");
  const { isCaisson, code, message, errno, syscall } = value as Partial<Record<keyof WireError, unknown>>;
  const text = typeof message === "string" ? message : "the node failed and did not say how";
  if (isCaisson === true) return new CaissonError(isErrorCode(code) ? code : "INTERNAL_ERROR", text);
  return Object.assign(new Error(text), {
    ...(typeof code === "string" && /^[A-Z][A-Z0-9_]{0,63}$/.test(code) ? { code } : {}),
    ...(typeof errno === "number" ? { errno } : {}),
    ...(typeof syscall === "string" && /^[a-z0-9_ ]{1,64}$/i.test(syscall) ? { syscall } : {}),
  });
}

function isErrorCode(code: unknown): code is ErrorCode {
  return typeof code === "string" && Object.hasOwn(ERRORS, code);
}

/** What went wrong between here and a node, and what to do about it. */
export function explainConnectionError(error: unknown, address: string): string {
  const { code, message } = error instanceof Error ? (error as NodeJS.ErrnoException) : { code: "", message: "" };
  switch (code) {
    case "ECONNREFUSED":
      return `nothing listens at ${address}: start it there with "caisson up --role node"`;
    case "ENOTFOUND":
    case "EAI_AGAIN":
      return `the name of its address ${address} cannot be resolved`;
    case "EHOSTUNREACH":
    case "ENETUNREACH":
    case "ETIMEDOUT":
      return `its address ${address} cannot be reached: look at the machine and the network`;
    case "ERR_TLS_CERT_ALTNAME_INVALID":
      return `another node answers at its address ${address}`;
    case "CERT_HAS_EXPIRED":
      return `the certificate that ${address} shows has expired, or a clock is wrong: set the clocks of both machines. If it was off for so long, let it join again as the node that it is: run "caisson nodes tokens create" here, and there "caisson up --role node --join TOKEN"`;
    case "CERT_NOT_YET_VALID":
      return `the certificate that ${address} shows is not good yet: set the clocks of both machines`;
    case "UNABLE_TO_VERIFY_LEAF_SIGNATURE":
    case "UNABLE_TO_GET_ISSUER_CERT_LOCALLY":
    case "SELF_SIGNED_CERT_IN_CHAIN":
    case "DEPTH_ZERO_SELF_SIGNED_CERT":
    case "CERT_SIGNATURE_FAILURE":
      return `the certificate that ${address} shows is not one of this installation, or its authority was retired: if it is a node of this one, let it join again as the node that it is, by "caisson nodes tokens create" here, and there "caisson up --role node --join TOKEN"`;
    default:
      if (/^ERR_SSL_.*ALERT/.test(code ?? ""))
        return `${address} does not accept the certificate of this server: it belongs to another installation, or its clock is off`;
      return `the connection to ${address} failed (${code || message || String(error)})`;
  }
}
