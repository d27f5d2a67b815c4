import { CertificateAuthority } from "@caisson/certificates";
import type { Store } from "@caisson/database";
import { CONTROL_NAME, type LinkCredentials } from "@caisson/node-link";

const RENEW_MS = 24 * 3_600_000;

/** What this server shows to nodes: a certificate of the installation's authority, renewed each day. It rejects with a reason as the end of a sentence. */
export function controlCredentials(store: Store): () => Promise<LinkCredentials> {
  let issued: { readonly credentials: LinkCredentials; readonly renewAtMs: number } | null = null;
  return async () => {
    if (issued !== null && Date.now() < issued.renewAtMs) return issued.credentials;
    const kept = await store.joining.authority();
    if (kept === null) throw new Error("the installation has no authority: no machine has joined it");
    const { certificate, privateKey } = kept;
    const authority = await CertificateAuthority.open({ cert: certificate, key: privateKey }, "Caisson");
    const signed = await authority.issue([CONTROL_NAME], { usage: "client" });
    issued = { credentials: { ...signed, authority: certificate }, renewAtMs: Date.now() + RENEW_MS };
    return issued.credentials;
  };
}
