export { CertificateAuthority } from "../src/egress/proxy/certificate-authority.ts";
export { describeRuntimeConformance, type TestHost } from "./conformance.ts";
export { TestInternet, WORLD } from "./test-internet.ts";
export { isInPrivateNetwork } from "./test-private-network.ts";
