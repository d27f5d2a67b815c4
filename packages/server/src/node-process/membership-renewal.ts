import { X509Certificate } from "node:crypto";
import { createKey, createSigningRequest } from "@caisson/certificates";
import { type CertificateRenewal, type LinkCredentials, nodeName, type SignedCertificate } from "@caisson/node-link";
import { formerOf, requireFitting } from "./membership.ts";
import { readMembership, removeFirstKey, writeMembership } from "./membership-file.ts";

/**
 * How a node takes the new certificate that its server brings: for a new key, which is in memory alone until both are written, in one file. A kill at any point leaves the old pair or the new one, and the next start shows what is
 * written.
 */
export class MembershipRenewal implements CertificateRenewal {
  readonly #directory: string;
  readonly #nodeId: string;
  #key: string | null = null;

  constructor(directory: string, nodeId: string) {
    this.#directory = directory;
    this.#nodeId = nodeId;
  }

  async request(): Promise<string> {
    const key = createKey();
    this.#key = key;
    return createSigningRequest(key, "Caisson node");
  }

  async accept({ cert: certificate, authority }: SignedCertificate): Promise<LinkCredentials> {
    const key = this.#key;
    if (key === null) throw new Error("Nobody has asked for a signing request");
    requireFitting({ certificate, authority, key });
    if (new X509Certificate(certificate).checkHost(nodeName(this.#nodeId)) === undefined)
      throw new Error(`The certificate is not for node ${this.#nodeId}`);
    const membership = await readMembership(this.#directory);
    if (membership === null) throw new Error("The membership of this node is gone from its data directory");
    await writeMembership(this.#directory, {
      ...membership,
      certificate,
      authority,
      key,
      ...formerOf(membership, authority),
    });
    this.#key = null;
    await removeFirstKey(this.#directory);
    return { cert: certificate, key, authority };
  }
}
