export {
  type AuthorityOptions,
  type CertificateAndKey,
  CertificateAuthority,
  createSigningRequest,
  type IssueOptions,
  type SigningRequest,
} from "./certificate-authority.ts";
