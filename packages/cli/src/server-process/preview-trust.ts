import { lookup } from "node:dns/promises";
import { stat } from "node:fs/promises";
import { join, resolve } from "node:path";

/** Files by which clients on this machine trust previews. */
export interface PreviewTrust {
  /** The certificate of the server's own authority. */
  readonly authority: string;
  /** The system's authorities and that one. */
  readonly bundle: string;
  /** Whether programs on this machine find names below `localhost`. */
  readonly isLocalhostFound: boolean;
}

/** Null where the server has a certificate that clients trust without more. */
export async function readPreviewTrust(dataDirectory: string): Promise<PreviewTrust | null> {
  const directory = join(resolve(dataDirectory), "previews");
  const authority = join(directory, "authority.pem");
  const bundle = join(directory, "trust.pem");
  const isThere = await stat(bundle).then(
    () => true,
    () => false,
  );
  if (!isThere) return null;
  const isLocalhostFound = await lookup("preview.caisson.localhost").then(
    () => true,
    () => false,
  );
  return { authority, bundle, isLocalhostFound };
}
