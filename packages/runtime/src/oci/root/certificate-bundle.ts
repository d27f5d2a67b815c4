import { constants } from "node:fs";
import { lstat, open } from "node:fs/promises";
import { join } from "node:path";
import { getCACertificates } from "node:tls";
import { hasErrorCode } from "@caisson/linux";

/** Where programs on Debian look for the certificates that they trust. */
export const CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt";

/** Space for what roots hold, which is about 220 kB, and for what users add. */
const BUNDLE_BYTES_MAX = 768 * 1024;
/** The bundle with the authority added. */
export const CERTIFICATES_BYTES_MAX = 1024 * 1024;

/**
 * The bundle of a root with one more authority. Nothing runs in the root yet, but an earlier sandbox may have put links in the way to lead
 * the server to its own files: then, and when the root has no bundle, this host's certificates take their place.
 */
export async function certificateBundle(rootPath: string, authority: string): Promise<string> {
  const own = (await readBundle(rootPath)) ?? `${getCACertificates("system").join("\n")}\n`;
  return `${own.trimEnd()}\n${authority}`;
}

async function readBundle(rootPath: string): Promise<string | null> {
  let path = rootPath;
  try {
    for (const name of CERTIFICATES.split("/").slice(1, -1)) {
      path = join(path, name);
      if (!(await lstat(path)).isDirectory()) return null;
    }
    await using file = await open(
      join(rootPath, CERTIFICATES),
      constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK,
    );
    const status = await file.stat();
    return status.isFile() && status.size <= BUNDLE_BYTES_MAX ? await file.readFile("utf8") : null;
  } catch (error) {
    // ENXIO: a socket.
    if (hasErrorCode(error, "ENOENT", "ELOOP", "ENXIO")) return null;
    throw error;
  }
}
