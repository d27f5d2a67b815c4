import { CertificateAuthority, type IssueOptions } from "@caisson/certificates";
import { CONTROL_NAME, LINK_DOMAIN, type LinkCredentials, nodeName } from "../src/credentials.ts";

export const TEST_NODE_ID = "nod_test";

/** An authority, and what it has signed. */
export interface Installation {
  readonly control: LinkCredentials;
  readonly node: LinkCredentials;
  issue(name: string, options: IssueOptions): Promise<LinkCredentials>;
}

export async function makeInstallation(): Promise<Installation> {
  const authority = await CertificateAuthority.create({ commonName: "Test of links", domain: LINK_DOMAIN });
  const issue = async (name: string, options: IssueOptions): Promise<LinkCredentials> => ({
    ...(await authority.issue([name], options)),
    authority: authority.certificatePem,
  });
  return {
    control: await issue(CONTROL_NAME, { usage: "client" }),
    node: await issue(nodeName(TEST_NODE_ID), { usage: "server" }),
    issue,
  };
}
