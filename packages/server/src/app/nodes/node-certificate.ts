import { createHash, X509Certificate } from "node:crypto";
import type { CertificateAuthority } from "@caisson/certificates";
import { step } from "@caisson/linux";
import { CaissonError } from "@caisson/model";
import { nodeName, type ShownCertificate, type Validity } from "@caisson/node-link";
import type { AppContext } from "../context.ts";
import { auditEvent } from "../operations/audit-event.ts";
import { administratingOrganization, certificatesOf, type InstallationAuthority } from "./installation-authority.ts";
import type { RemoteNode } from "./remote-node.ts";

/** How long a certificate of a node is good: a machine that is switched off may stay so for the last third of it. */
const LIFETIME_MS = 180 * 86_400_000;

/** From when on a certificate is renewed: a third of its time is left. Those of the time when nothing was renewed are good for ten years, and count as if they were new ones. */
export function renewalDueAtMs({ fromMs, untilMs }: Validity): number {
  return fromMs + (Math.min(untilMs - fromMs, LIFETIME_MS) * 2) / 3;
}

/** A certificate for the key of a node's signing request, in PEM form. Rejects for a request that is none. */
export function signForNode(authority: CertificateAuthority, nodeId: string, signingRequest: string): Promise<string> {
  return authority.sign(signingRequest, [nodeName(nodeId)], { usage: "server", lifetimeMs: LIFETIME_MS });
}

/** What the certificate of a node says. */
export interface NodeCertificate {
  readonly nodeId: string;
  /** As `fingerprintOfRequest` has it. */
  readonly keyFingerprint: string;
  /** The number of the authority that has signed it. */
  readonly authority: number;
  /** Whether that was retired. */
  readonly isRetired: boolean;
}

/** It may have expired. Null: it is none of a node of this installation. */
export async function readNodeCertificate(
  authority: InstallationAuthority,
  certificatePem: string,
): Promise<NodeCertificate | null> {
  const certificate = parseCertificate(certificatePem);
  const signer = certificate === null ? null : await authority.signerOf(certificate);
  if (certificate === null || signer === null) return null;
  const nodeId = /^DNS:(nod_[a-z0-9]+)\./.exec(certificate.subjectAltName ?? "")?.[1];
  if (nodeId === undefined || certificate.subjectAltName !== `DNS:${nodeName(nodeId)}`) return null;
  const key = certificate.publicKey.export({ type: "spki", format: "der" });
  const keyFingerprint = createHash("sha256").update(key).digest("hex");
  return { nodeId, keyFingerprint, authority: signer.number, isRetired: signer.privateKey === null };
}

function parseCertificate(pem: string): X509Certificate | null {
  try {
    return new X509Certificate(pem);
  } catch {
    return null;
  }
}

/**
 * Gives a node that is connected a new certificate of the newest authority, and tells it which authorities it is to believe from then on. A crash, or a connection that is lost, leaves the node with the old one or the new one, and the row is set right by the next look. Throws `NODE_UNAVAILABLE`, also for a node
 * that was forgotten or given up meanwhile.
 */
export async function renewNodeCertificate(
  app: Pick<AppContext, "store" | "authority">,
  nodeId: string,
  remote: Pick<RemoteNode, "renewCertificate" | "certificate">,
): Promise<ShownCertificate> {
  const { store } = app;
  const believed = await app.authority.believed();
  const newest = believed.at(-1) ?? believed[0];
  await remote.renewCertificate(async (request) => {
    const row = await store.nodes.get(nodeId);
    if (row === null || row.lostAtMs !== null)
      throw new CaissonError("NODE_UNAVAILABLE", `Node ${nodeId} was forgotten: it gets no certificate`);
    return { cert: await signForNode(newest.authority, nodeId, request), authority: certificatesOf(believed) };
  });
  const certificate = remote.certificate;
  if (certificate === null)
    throw new CaissonError("NODE_UNAVAILABLE", `Node ${nodeId} was lost when it had its new certificate`);
  const { untilMs } = certificate;
  const until = new Date(untilMs).toISOString();
  const organizationId = await administratingOrganization(store);
  const event = auditEvent(null, "node-certificate-renew", { id: nodeId, organizationId }, { until });
  const seen = { untilMs, authority: newest.number, oldestAuthority: believed[0].number };
  await step("node-certificate.commit", () => store.nodes.setCertificate(nodeId, seen, event));
  return certificate;
}
