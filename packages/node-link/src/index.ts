export {
  type CertificateRenewal,
  type ShownCertificate,
  type SignedCertificate,
  shownCertificate,
  type Validity,
  validityOf,
} from "./certificate-renewal.ts";
export { CONTROL_NAME, LINK_DOMAIN, type LinkCredentials, nodeName, splitCertificates } from "./credentials.ts";
export { LinkedNode } from "./linked-node.ts";
export { NodeEvents } from "./node-events.ts";
export { serveNode } from "./serve-node.ts";
