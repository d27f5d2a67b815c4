export { type AuthorityOptions, type CertificateAndKey, CertificateAuthority } from "./certificate-authority.ts";
