export {
  type AuthorityOptions,
  type CertificateAndKey,
  CertificateAuthority,
  createKey,
  createSigningRequest,
  fingerprintOfRequest,
  type IssueOptions,
} from "./certificate-authority.ts";
