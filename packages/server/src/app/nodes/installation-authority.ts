import { CertificateAuthority } from "@caisson/certificates";
import type { Store } from "@caisson/database";
import { step } from "@caisson/linux";
import { CONTROL_NAME, LINK_DOMAIN, type LinkCredentials } from "@caisson/node-link";
import { ADMIN_ORGANIZATION } from "../access/administrator.ts";
import { auditEvent } from "../operations/audit-event.ts";

const COMMON_NAME = "Caisson nodes";

/** What signs for the nodes and servers of the installation. It is kept in the store, and made when it is needed for the first time: of several servers that make it at once, all get the same. */
export class InstallationAuthority {
  readonly #store: Store;
  #opened: Promise<CertificateAuthority> | null = null;

  constructor(store: Store) {
    this.#store = store;
  }

  open(): Promise<CertificateAuthority> {
    this.#opened ??= this.#open().catch((error: unknown) => {
      this.#opened = null;
      throw error;
    });
    return this.#opened;
  }

  /** A new certificate of this server, to show to nodes. Its key is in memory only. */
  async controlCredentials(): Promise<LinkCredentials> {
    const authority = await this.open();
    return { ...(await authority.issue([CONTROL_NAME], { usage: "client" })), authority: authority.certificatePem };
  }

  async #open(): Promise<CertificateAuthority> {
    const { certificate, privateKey } = (await this.#store.joining.authority()) ?? (await this.#make());
    return CertificateAuthority.open({ cert: certificate, key: privateKey }, COMMON_NAME);
  }

  async #make() {
    const { cert, key } = await CertificateAuthority.createLasting({ commonName: COMMON_NAME, domain: LINK_DOMAIN });
    const organizationId = await administratingOrganization(this.#store);
    const event = auditEvent(null, "authority-create", { id: "authority", organizationId });
    return step("authority-create.commit", () =>
      this.#store.joining.makeAuthority({ certificate: cert, privateKey: key }, event),
    );
  }
}

/** In whose trail it is written what happens to the nodes. */
export async function administratingOrganization(store: Store): Promise<string> {
  const organization = await store.organizations.get(ADMIN_ORGANIZATION);
  if (organization === null) throw new Error("The organization that administers the server is missing");
  return organization.id;
}
