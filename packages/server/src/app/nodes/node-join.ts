import { fingerprintOfRequest } from "@caisson/certificates";
import { step } from "@caisson/linux";
import { CaissonError, randomCharacters } from "@caisson/model";
import { nodeName } from "@caisson/node-link";
import { hashToken } from "../access/token-hash.ts";
import type { AppContext } from "../context.ts";
import { auditEvent } from "../operations/audit-event.ts";
import { administratingOrganization } from "./installation-authority.ts";
import { parseNodeAddress } from "./node-address.ts";

/** As long as the authority itself: a node that is not wanted any more is forgotten. */
const CERTIFICATE_MS = Number.POSITIVE_INFINITY;

/** What a machine says when it joins. */
export interface JoinRequest {
  /** In PEM form; the key itself never leaves the machine. */
  readonly signingRequest: string;
  /** `HOST:PORT`, where this server reaches it. */
  readonly address: string;
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
 * Makes a node of the machine that has the token, and signs for its key. The same machine may repeat it, with the same key, until the token expires. Throws `INVALID_TOKEN`, and
 * `INVALID_REQUEST` for an address or a signing request that is none.
 */
export async function joinNode(
  app: AppContext,
  secret: string,
  { signingRequest, address }: JoinRequest,
): Promise<JoinedNode> {
  if (parseNodeAddress(address) === null)
    throw new CaissonError("INVALID_REQUEST", `The address ${JSON.stringify(address.slice(0, 300))} is not HOST:PORT`);
  const keyFingerprint = await fingerprintOfRequest(signingRequest).catch((error: unknown) => {
    throw new CaissonError("INVALID_REQUEST", "The signing request is none, or not of a key on P-256", {
      cause: error,
    });
  });
  const authority = await app.authority.open();
  const newId = `nod_${randomCharacters(20)}`;
  const organizationId = await administratingOrganization(app.store);
  const event = auditEvent(null, "node-join", { id: newId, organizationId }, { address });
  const outcome = await step("node-join.commit", () =>
    app.store.joining.join(hashToken(secret), { nodeId: newId, keyFingerprint, address }, event),
  );
  if (outcome.kind === "refused")
    throw new CaissonError(
      "INVALID_TOKEN",
      `${REFUSALS[outcome.reason]}. Make a new one with "caisson nodes tokens create"`,
    );
  const { id } = outcome.node;
  const certificate = await authority.sign(signingRequest, [nodeName(id)], {
    usage: "server",
    lifetimeMs: CERTIFICATE_MS,
  });
  return { nodeId: id, certificate, authority: authority.certificatePem, region: outcome.token.region };
}
