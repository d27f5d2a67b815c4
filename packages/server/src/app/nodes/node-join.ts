import { fingerprintOfRequest } from "@caisson/certificates";
import { step } from "@caisson/linux";
import { CaissonError, randomCharacters } from "@caisson/model";
import { hashToken } from "../access/token-hash.ts";
import type { AppContext } from "../context.ts";
import { auditEvent } from "../operations/audit-event.ts";
import { administratingOrganization } from "./installation-authority.ts";
import { parseNodeAddress } from "./node-address.ts";
import { type NodeCertificate, readNodeCertificate, signForNode } from "./node-certificate.ts";

/** What a machine says when it joins. */
export interface JoinRequest {
  /** In PEM form; the key itself never leaves the machine. */
  readonly signingRequest: string;
  /** `HOST:PORT`, where this server reaches it. */
  readonly address: string;
  /** Of the node that this machine is already, in PEM form, for the same key. Null: it is none. */
  readonly certificate: string | null;
}

export interface JoinedNode {
  readonly nodeId: string;
  /** Both in PEM form. */
  readonly certificate: string;
  readonly authority: string;
  readonly region: string | null;
}

const REFUSALS = {
  unknown:
    "This server has no such token: it was revoked, is of another installation, or was dropped after it had expired",
  expired: "The token has expired",
  used: "The token was used by another machine",
  forgotten: "The node that joined with this token was forgotten since",
} as const;

/**
 * Makes a node of the machine that has the token, and signs for its key. The same machine may repeat it, with the same key, until the token expires. A machine that is a
 * node of this installation already, as its certificate and its key show, stays that node with all that it has, also when the certificate has expired or its authority was retired. Throws `INVALID_TOKEN`, and
 * `INVALID_REQUEST` for an address, a signing request or a certificate that is none.
 */
export async function joinNode(
  app: AppContext,
  secret: string,
  { signingRequest, address, certificate }: JoinRequest,
): Promise<JoinedNode> {
  if (parseNodeAddress(address) === null)
    throw new CaissonError("INVALID_REQUEST", `The address ${JSON.stringify(address.slice(0, 300))} is not HOST:PORT`);
  const keyFingerprint = await fingerprintOfRequest(signingRequest).catch((error: unknown) => {
    throw new CaissonError("INVALID_REQUEST", "The signing request is none, or not of a key on P-256", {
      cause: error,
    });
  });
  const authority = await app.authority.oldest();
  const known = certificate === null ? null : await readNodeCertificate(app.authority, certificate);
  if ((certificate !== null && known?.keyFingerprint !== keyFingerprint) || (await isOutdated(app, known)))
    throw new CaissonError(
      "INVALID_REQUEST",
      "The certificate is not that of a node of this installation, or not of the key that has signed the request, or the node has another one since its authority was retired",
    );
  const isNode = known !== null;
  const nodeId = known?.nodeId ?? `nod_${randomCharacters(20)}`;
  const organizationId = await administratingOrganization(app.store);
  const event = auditEvent(null, isNode ? "node-rejoin" : "node-join", { id: nodeId, organizationId }, { address });
  const outcome = await step("node-join.commit", () =>
    app.store.joining.join(hashToken(secret), { nodeId, keyFingerprint, address, isNode }, event),
  );
  if (outcome.kind === "refused" && outcome.reason === "forgotten" && isNode)
    throw new CaissonError(
      "INVALID_TOKEN",
      `The installation has forgotten node ${nodeId}. To have this machine as a new node, move its data directory away, or give another one with --data`,
    );
  if (outcome.kind === "refused")
    throw new CaissonError(
      "INVALID_TOKEN",
      `${REFUSALS[outcome.reason]}. Make a new one with "caisson nodes tokens create"`,
    );
  const { id } = outcome.node;
  const signed = await signForNode(authority, id, signingRequest);
  return { nodeId: id, certificate: signed, authority: authority.certificatePem, region: outcome.token.region };
}

/** Whether an authority was retired that has signed the certificate, and its node has one of a later authority: the key of the retired one may be in foreign hands, so it shows no more who a machine is than it has to. */
async function isOutdated({ store }: AppContext, known: NodeCertificate | null): Promise<boolean> {
  if (known === null || !known.isRetired) return false;
  const row = await store.nodes.get(known.nodeId);
  return (row?.certificateAuthority ?? 0) > known.authority;
}
