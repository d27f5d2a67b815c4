import { createHash, X509Certificate } from "node:crypto";
import type { CertificateAuthority } from "@caisson/certificates";
import { step } from "@caisson/linux";
import { CaissonError } from "@caisson/model";
import { nodeName, type SignedCertificate, type Validity } from "@caisson/node-link";
import type { AppContext } from "../context.ts";
import { auditEvent } from "../operations/audit-event.ts";
import { administratingOrganization } from "./installation-authority.ts";
import type { RemoteNode } from "./remote-node.ts";

/** How long a certificate of a node is good: a machine that is switched off may stay so for the last third of it. */
const LIFETIME_MS = 180 * 86_400_000;

/** From when on a certificate is renewed: a third of its time is left. Those of the time when nothing was renewed are good for ten years, and count as if they were new ones. */
export function renewalDueAtMs({ fromMs, untilMs }: Validity): number {
  return fromMs + (Math.min(untilMs - fromMs, LIFETIME_MS) * 2) / 3;
}

/** A certificate for the key of a node's signing request. Rejects for a request that is none. */
export async function signForNode(
  authority: CertificateAuthority,
  nodeId: string,
  signingRequest: string,
): Promise<SignedCertificate> {
  const options = { usage: "server", lifetimeMs: LIFETIME_MS } as const;
  const cert = await authority.sign(signingRequest, [nodeName(nodeId)], options);
  return { cert, authority: authority.certificatePem };
}

/** Whose certificate this is, and the fingerprint of its key as `fingerprintOfRequest` has it; it may have expired. Null: it is none of a node of this installation. */
export function readNodeCertificate(
  authority: CertificateAuthority,
  certificatePem: string,
): { readonly nodeId: string; readonly keyFingerprint: string } | null {
  let certificate: X509Certificate;
  try {
    certificate = new X509Certificate(certificatePem);
    if (!certificate.verify(new X509Certificate(authority.certificatePem).publicKey)) return null;
  } catch {
    return null;
  }
  const nodeId = /^DNS:(nod_[a-z0-9]+)\./.exec(certificate.subjectAltName ?? "")?.[1];
  if (nodeId === undefined || certificate.subjectAltName !== `DNS:${nodeName(nodeId)}`) return null;
  const key = certificate.publicKey.export({ type: "spki", format: "der" });
  return { nodeId, keyFingerprint: createHash("sha256").update(key).digest("hex") };
}

/**
 * Gives a node that is connected a new certificate. A crash, or a connection that is lost, leaves the node with the old one or the new one, and the row is set right by the next look. Throws `NODE_UNAVAILABLE`, also for a node
 * that was forgotten or given up meanwhile.
 */
export async function renewNodeCertificate(
  app: Pick<AppContext, "store" | "authority">,
  nodeId: string,
  remote: Pick<RemoteNode, "renewCertificate" | "certificate">,
): Promise<Validity> {
  const { store } = app;
  const authority = await app.authority.open();
  await remote.renewCertificate(async (request) => {
    const row = await store.nodes.get(nodeId);
    if (row === null || row.lostAtMs !== null)
      throw new CaissonError("NODE_UNAVAILABLE", `Node ${nodeId} was forgotten: it gets no certificate`);
    return signForNode(authority, nodeId, request);
  });
  const validity = remote.certificate;
  if (validity === null)
    throw new CaissonError("NODE_UNAVAILABLE", `Node ${nodeId} was lost when it had its new certificate`);
  const until = new Date(validity.untilMs).toISOString();
  const organizationId = await administratingOrganization(store);
  const event = auditEvent(null, "node-certificate-renew", { id: nodeId, organizationId }, { until });
  await step("node-certificate.commit", () => store.nodes.setCertificateUntil(nodeId, validity.untilMs, event));
  return validity;
}
