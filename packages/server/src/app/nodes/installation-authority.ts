import { X509Certificate } from "node:crypto";
import { CertificateAuthority } from "@caisson/certificates";
import type { Authority, AuthorityKeys, Store } from "@caisson/database";
import { step } from "@caisson/linux";
import { CONTROL_NAME, LINK_DOMAIN, type LinkCredentials } from "@caisson/node-link";
import { ADMIN_ORGANIZATION } from "../access/administrator.ts";
import { auditEvent } from "../operations/audit-event.ts";

const COMMON_NAME = "Caisson nodes";

/** An authority of the installation that is believed. */
export interface BelievedAuthority {
  readonly number: number;
  readonly authority: CertificateAuthority;
}

/**
 * What signs for the nodes and servers of the installation. It is kept in the store, and made when it is needed for the first time: of several servers that make it at once, all get the same.
 *
 * While it is being renewed there are two. Both are believed by every server at once, and by each node from when it has a certificate of the new one, which reaches it over its connection. Whatever else begins (tokens for joining, machines that join,
 * what a server shows first) is of the old one until that is retired, because each node believes it.
 */
export class InstallationAuthority {
  readonly #store: Store;
  readonly #listeners = new Set<() => void>();

  constructor(store: Store) {
    this.#store = store;
  }

  /** Those that are believed: one, or the old one, until it ends, and the new one. The store is asked each time, so that what another process changes is seen. */
  async believed(nowMs = Date.now()): Promise<readonly [BelievedAuthority, ...BelievedAuthority[]]> {
    const kept = (await this.#read()).filter(({ privateKey }) => privateKey !== null);
    const opened = await Promise.all(kept.map(openAuthority));
    const newest = opened.pop();
    if (newest === undefined) throw new Error("Every authority of the installation was retired");
    const [old] = opened.filter(({ authority }) => authority.expiresAtMs > nowMs);
    return old === undefined ? [newest] : [old, newest];
  }

  /** What every node believes that is not locked out. */
  async oldest(): Promise<CertificateAuthority> {
    const [{ authority }] = await this.believed();
    return authority;
  }

  /** Which authority of the installation has signed this certificate, also one that was retired. Null: none. */
  async signerOf(certificate: X509Certificate): Promise<Authority | null> {
    const isSigner = (authority: Authority): boolean =>
      certificate.verify(new X509Certificate(authority.certificate).publicKey);
    return (await this.#read()).find(isSigner) ?? null;
  }

  /** New certificates of this server to show to a node, in the order in which they are tried: one of each authority that is believed. Their keys are in memory only. */
  async controlCredentials(): Promise<readonly LinkCredentials[]> {
    const believed = await this.believed();
    const authority = certificatesOf(believed);
    return Promise.all(
      believed.map(async (by) => ({
        ...(await by.authority.issue([CONTROL_NAME], { usage: "client" })),
        authority,
      })),
    );
  }

  /** Calls it when this process has changed which authorities are believed, until the returned function is called. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Says that it has. */
  changed(): void {
    for (const listener of this.#listeners) listener();
  }

  async #read(): Promise<readonly Authority[]> {
    const authorities = await this.#store.joining.authorities();
    return authorities.length > 0 ? authorities : this.#make();
  }

  async #make(): Promise<readonly Authority[]> {
    const keys = await createAuthorityKeys();
    const organizationId = await administratingOrganization(this.#store);
    const event = auditEvent(null, "authority-create", { id: "authority", organizationId });
    return step("authority-create.commit", () => this.#store.joining.makeAuthority(keys, event));
  }
}

/** Their certificates, the newest first, as `LinkCredentials` has them. */
export function certificatesOf(believed: readonly BelievedAuthority[]): string {
  return believed
    .toReversed()
    .map(({ authority }) => authority.certificatePem)
    .join("");
}

/** Of a new authority. */
export async function createAuthorityKeys(): Promise<AuthorityKeys> {
  const { cert, key } = await CertificateAuthority.createLasting({ commonName: COMMON_NAME, domain: LINK_DOMAIN });
  return { certificate: cert, privateKey: key };
}

/** In whose trail it is written what happens to the nodes. */
export async function administratingOrganization(store: Store): Promise<string> {
  const organization = await store.organizations.get(ADMIN_ORGANIZATION);
  if (organization === null) throw new Error("The organization that administers the server is missing");
  return organization.id;
}

async function openAuthority({ number, certificate, privateKey }: Authority): Promise<BelievedAuthority> {
  const keys = { cert: certificate, key: privateKey ?? "" };
  return { number, authority: await CertificateAuthority.open(keys, COMMON_NAME) };
}
