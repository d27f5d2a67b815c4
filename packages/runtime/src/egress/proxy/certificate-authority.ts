// The certificate library's dependency injection needs it, and needs it first.
import "reflect-metadata";

import { randomBytes, webcrypto } from "node:crypto";
import { createSecureContext, type SecureContext } from "node:tls";
import {
  AuthorityKeyIdentifierExtension,
  BasicConstraintsExtension,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  KeyUsageFlags,
  KeyUsagesExtension,
  PemConverter,
  SubjectAlternativeNameExtension,
  SubjectKeyIdentifierExtension,
  type X509Certificate,
  X509CertificateGenerator,
} from "@peculiar/x509";

const ALGORITHM = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" } as const;
const DAY_MS = 86_400_000;
/** The host's clock may have run ahead of the sandbox's idea of a certificate's first day. */
const BACKDATED_MS = DAY_MS;
/** A server that runs longer makes new ones (leaves) or must be restarted (the authority, after ten years). */
const AUTHORITY_MS = 3650 * DAY_MS;
const LEAF_MS = 30 * DAY_MS;
const LEAF_RENEW_MS = 20 * DAY_MS;
const LEAVES_MAX = 512;

interface Leaf {
  readonly context: Promise<SecureContext>;
  readonly renewAtMs: number;
}

/** A certificate authority whose key exists in this process's memory only. It signs for single names. */
export class CertificateAuthority {
  readonly certificatePem: string;
  readonly #certificate: X509Certificate;
  readonly #privateKey: webcrypto.CryptoKey;
  readonly #leaves = new Map<string, Leaf>();

  private constructor(certificate: X509Certificate, privateKey: webcrypto.CryptoKey) {
    this.#certificate = certificate;
    this.#privateKey = privateKey;
    this.certificatePem = `${certificate.toString("pem")}\n`;
  }

  static async create(): Promise<CertificateAuthority> {
    const keys = await webcrypto.subtle.generateKey(ALGORITHM, false, ["sign", "verify"]);
    const nowMs = Date.now();
    const certificate = await X509CertificateGenerator.createSelfSigned({
      serialNumber: newSerial(),
      name: `CN=Caisson sandbox secrets ${randomBytes(4).toString("hex")}`,
      notBefore: new Date(nowMs - BACKDATED_MS),
      notAfter: new Date(nowMs + AUTHORITY_MS),
      signingAlgorithm: ALGORITHM,
      keys,
      extensions: [
        new BasicConstraintsExtension(true, 0, true),
        new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign, true),
        await SubjectKeyIdentifierExtension.create(keys.publicKey),
      ],
    });
    return new CertificateAuthority(certificate, keys.privateKey);
  }

  /** What a TLS server needs to be the name. */
  secureContext(name: string): Promise<SecureContext> {
    const known = this.#leaves.get(name);
    if (known !== undefined && known.renewAtMs > Date.now()) return known.context;
    const [oldest] = this.#leaves.keys();
    if (this.#leaves.size >= LEAVES_MAX && oldest !== undefined) this.#leaves.delete(oldest);
    const context = this.#issue(name);
    this.#leaves.set(name, { context, renewAtMs: Date.now() + LEAF_RENEW_MS });
    context.catch(() => this.#leaves.delete(name));
    return context;
  }

  async #issue(name: string): Promise<SecureContext> {
    const keys = await webcrypto.subtle.generateKey(ALGORITHM, true, ["sign", "verify"]);
    const nowMs = Date.now();
    const leaf = await X509CertificateGenerator.create({
      serialNumber: newSerial(),
      // The name itself may be longer than a common name can be; clients read the alternative name.
      subject: "CN=Caisson sandbox secrets",
      issuer: this.#certificate.subject,
      notBefore: new Date(nowMs - BACKDATED_MS),
      notAfter: new Date(nowMs + LEAF_MS),
      signingAlgorithm: ALGORITHM,
      publicKey: keys.publicKey,
      signingKey: this.#privateKey,
      extensions: [
        new BasicConstraintsExtension(false, undefined, true),
        new KeyUsagesExtension(KeyUsageFlags.digitalSignature, true),
        new ExtendedKeyUsageExtension([ExtendedKeyUsage.serverAuth]),
        new SubjectAlternativeNameExtension([{ type: "dns", value: name }]),
        // Python 3.13 insists on both identifiers (RFC 5280, sections 4.2.1.1 and 4.2.1.2).
        await SubjectKeyIdentifierExtension.create(keys.publicKey),
        await AuthorityKeyIdentifierExtension.create(await this.#certificate.publicKey.export()),
      ],
    });
    const key = PemConverter.encode(await webcrypto.subtle.exportKey("pkcs8", keys.privateKey), "PRIVATE KEY");
    return createSecureContext({ cert: leaf.toString("pem"), key });
  }
}

/** Positive, and of full length. */
function newSerial(): string {
  const bytes = randomBytes(16);
  bytes.writeUInt8((bytes.readUInt8(0) & 0x3f) | 0x40, 0);
  return bytes.toString("hex");
}
