/** What one side of a link shows, and whom it believes, in PEM form. */
export interface LinkCredentials {
  readonly cert: string;
  readonly key: string;
  /** Certificate of the installation's authority, which signs for every node and every server. */
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

/** TLS 1.3 alone, and a full handshake each time: a resumed session would not be checked again for a certificate that has expired. */
export const TLS_OPTIONS = { minVersion: "TLSv1.3", ALPNProtocols: ["h2"], rejectUnauthorized: true } as const;
