import { chmod, mkdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { getCACertificates } from "node:tls";
import { type CertificateAndKey, CertificateAuthority } from "@caisson/certificates";
import { hasErrorCode } from "@caisson/linux";
import { CaissonError } from "@caisson/model";
import type { Logger } from "pino";
import { writeDurably } from "../write-durably.ts";

const COMMON_NAME = "Caisson previews";
const DAY_MS = 86_400_000;
/** Leaves are good for 30 days. */
const RENEW_INTERVAL_MS = DAY_MS;
/** An authority with less time left makes place for a new one at the next start. */
const AUTHORITY_LEFT_MS = 60 * DAY_MS;

/** The fault point of each file. */
const FILE_STEP = "preview-authority.file";
const NAMES = { authority: "authority.pem", key: "authority-key.pem", bundle: "trust.pem", domain: "domain" } as const;

/**
 * This server's own authority for the names of previews, made once. Its key is in DATA/previews, for root alone; its certificate says that it is good
 * for that one domain. Beside it lie the certificate, and a bundle of the system's authorities and this one, for clients on this machine.
 */
export class PreviewAuthority {
  readonly #authority: CertificateAuthority;
  readonly #domain: string;

  private constructor(authority: CertificateAuthority, domain: string) {
    this.#authority = authority;
    this.#domain = domain;
  }

  /** Opens the one in the directory, or makes one: each file is written whole and then renamed, the key with its certificate first. */
  static async open(directory: string, domain: string): Promise<PreviewAuthority> {
    await mkdir(directory, { recursive: true, mode: 0o755 });
    await chmod(directory, 0o755);
    const authority = (await readAuthority(directory, domain)) ?? (await makeAuthority(directory, domain));
    const { certificatePem } = authority;
    const system = getCACertificates("system");
    const others = system.length > 0 ? system : getCACertificates("bundled");
    await writeDurably(directory, NAMES.authority, certificatePem, 0o644, FILE_STEP);
    await writeDurably(
      directory,
      NAMES.bundle,
      `${others.map((pem) => pem.trimEnd()).join("\n")}\n${certificatePem}`,
      0o644,
      FILE_STEP,
    );
    return new PreviewAuthority(authority, domain);
  }

  /** A new certificate for every name below the domain. Its key is in memory only. */
  issue(): Promise<CertificateAndKey> {
    return this.#authority.issue([`*.${this.#domain}`]);
  }

  /** Renews the certificate every day. Returns what ends that. */
  renew(use: (certificate: CertificateAndKey) => void, logger: Logger): () => void {
    const renew = (): void => {
      this.issue().then(use, (error: unknown) =>
        logger.error({ err: error }, "cannot renew the certificate of previews"),
      );
    };
    const timer = setInterval(renew, RENEW_INTERVAL_MS);
    return () => clearInterval(timer);
  }
}

/** For a server whose certificate clients trust as it is: `caisson env` must not speak of an authority that nobody uses. */
export async function removeTrust(directory: string): Promise<void> {
  await rm(join(directory, NAMES.authority), { force: true });
  await rm(join(directory, NAMES.bundle), { force: true });
}

async function readAuthority(directory: string, domain: string): Promise<CertificateAuthority | null> {
  const path = join(directory, NAMES.key);
  let text: string;
  try {
    if ((await readFile(join(directory, NAMES.domain), "utf8")) !== domain) return null;
    text = await readFile(path, "utf8");
  } catch (error) {
    if (hasErrorCode(error, "ENOENT")) return null;
    throw error;
  }
  const authority = await openAuthority(path, text);
  return authority.expiresAtMs > Date.now() + AUTHORITY_LEFT_MS ? authority : null;
}

async function openAuthority(path: string, text: string): Promise<CertificateAuthority> {
  const [cert = "", key = ""] = text.split(/(?<=-----END CERTIFICATE-----\n)/);
  try {
    return await CertificateAuthority.open({ cert, key }, COMMON_NAME);
  } catch (error) {
    throw new CaissonError(
      "INVALID_CONFIG",
      `Cannot use the authority of previews in ${path}: it is damaged (${String(error)}). Remove that file, and the next start makes a new authority; ` +
        'then run "caisson env" again, and import the new authority.pem where a browser had the old one',
      { cause: error },
    );
  }
}

async function makeAuthority(directory: string, domain: string): Promise<CertificateAuthority> {
  // What a crash leaves in between is made again.
  await rm(join(directory, NAMES.domain), { force: true });
  const made = await CertificateAuthority.createLasting({ commonName: COMMON_NAME, domain });
  await writeDurably(directory, NAMES.key, `${made.cert}${made.key}`, 0o600, FILE_STEP);
  await writeDurably(directory, NAMES.domain, domain, 0o644, FILE_STEP);
  return CertificateAuthority.open(made, COMMON_NAME);
}
