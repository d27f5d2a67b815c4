import { X509Certificate } from "node:crypto";

/** What one side of a link shows, and whom it believes, in PEM form. */
export interface LinkCredentials {
  readonly cert: string;
  readonly key: string;
  /**
   * Certificates of the installation's authorities, which sign for every node and every server, one after the other. While the authority is being renewed there are two: both are believed, and the first one has
   * signed `cert` in what a node gets.
   */
  readonly authority: string;
}

/** Every name that the installation's authority signs for is below this one. */
export const LINK_DOMAIN = "caisson.internal";

/** The name in the certificate that a server shows; no node has one for it. */
export const CONTROL_NAME = `control.${LINK_DOMAIN}`;

/** The name in the certificate of a node. */
export function nodeName(nodeId: string): string {
  return `${nodeId}.node.${LINK_DOMAIN}`;
}

/** Each of the certificates in a text, in PEM form. */
export function splitCertificates(pem: string): readonly string[] {
  return pem.match(/-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g) ?? [];
}

/** Whether one of these authorities, as in `LinkCredentials`, has signed the certificate. */
export function isSignedByOneOf(authorities: string, certificate: X509Certificate): boolean {
  return splitCertificates(authorities).some((pem) => certificate.verify(new X509Certificate(pem).publicKey));
}

/** TLS 1.3 alone, and a full handshake each time: a resumed session would not be checked again for a certificate that has expired. */
export const TLS_OPTIONS = { minVersion: "TLSv1.3", ALPNProtocols: ["h2"], rejectUnauthorized: true } as const;
