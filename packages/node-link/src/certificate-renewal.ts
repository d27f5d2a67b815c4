import { X509Certificate } from "node:crypto";
import type { LinkCredentials } from "./credentials.ts";

/** The server asks for a signing request. */
export const RENEWAL_REQUEST_PATH = "renewalRequest";
/** The server brings what the authority has signed. */
export const RENEWAL_PATH = "renewal";

/** Of a certificate, in epoch milliseconds. */
export interface Validity {
  readonly fromMs: number;
  readonly untilMs: number;
}

/** A certificate that a node shows. */
export interface ShownCertificate extends Validity {
  readonly pem: string;
}

/** What an authority of the installation has signed, and the certificates of those that are believed, that one's first, in PEM form. */
export type SignedCertificate = Pick<LinkCredentials, "cert" | "authority">;

/** How a node that is served gets a new certificate. */
export interface CertificateRenewal {
  /** A signing request for a new key, in PEM form; an earlier one counts no more. */
  request(): Promise<string>;
  /** Takes what was signed for the last request. Resolves, once it is on stable storage, to what new connections are shown. Rejects for what does not fit: then nothing has changed. */
  accept(signed: SignedCertificate): Promise<LinkCredentials>;
}

export const NO_RENEWAL: CertificateRenewal = { request: refuseRenewal, accept: refuseRenewal };

async function refuseRenewal(): Promise<never> {
  throw new Error("This node takes no new certificate");
}

export function shownCertificate(pem: string): ShownCertificate {
  return { ...validityOf(pem), pem };
}

export function validityOf(certificatePem: string): Validity {
  const { validFromDate, validToDate } = new X509Certificate(certificatePem);
  return { fromMs: validFromDate.getTime(), untilMs: validToDate.getTime() };
}
