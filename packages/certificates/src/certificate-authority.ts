// The certificate library's dependency injection needs it, and needs it first.
import "reflect-metadata";

import {
  createHash,
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  X509Certificate as NodeCertificate,
  randomBytes,
  webcrypto,
} from "node:crypto";
import { createSecureContext, type SecureContext } from "node:tls";
import { AsnConvert } from "@peculiar/asn1-schema";
import {
  GeneralName,
  GeneralSubtree,
  GeneralSubtrees,
  id_ce_nameConstraints,
  NameConstraints,
} from "@peculiar/asn1-x509";
import {
  AuthorityKeyIdentifierExtension,
  BasicConstraintsExtension,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  Extension,
  KeyUsageFlags,
  KeyUsagesExtension,
  PemConverter,
  Pkcs10CertificateRequest,
  Pkcs10CertificateRequestGenerator,
  SubjectAlternativeNameExtension,
  SubjectKeyIdentifierExtension,
  X509Certificate,
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

/** A certificate with its key, both in PEM form. */
export interface CertificateAndKey {
  readonly cert: string;
  readonly key: string;
}

export interface IssueOptions {
  /** What the certificate is good for. Default: a TLS server. */
  readonly usage?: "server" | "client";
  /** Default: 30 days. It is never good for longer than its authority. */
  readonly lifetimeMs?: number;
}

export interface AuthorityOptions {
  /** What people see of it; a random number is added. */
  readonly commonName: string;
  /** Its certificates are good for names below this domain only, whatever it signs (RFC 5280, section 4.2.1.10). Default: any name. */
  readonly domain?: string;
}

/** A certificate authority. It signs for single names; the keys of what it signs exist in this process's memory only, and so does its own unless it is exported. */
export class CertificateAuthority {
  readonly certificatePem: string;
  readonly #certificate: X509Certificate;
  readonly #privateKey: webcrypto.CryptoKey;
  readonly #commonName: string;
  readonly #leaves = new Map<string, Leaf>();

  private constructor(certificate: X509Certificate, privateKey: webcrypto.CryptoKey, commonName: string) {
    this.#certificate = certificate;
    this.#privateKey = privateKey;
    this.#commonName = commonName;
    this.certificatePem = `${certificate.toString("pem")}\n`;
  }

  static async create({ commonName, domain }: AuthorityOptions): Promise<CertificateAuthority> {
    const { certificate, privateKey } = await make(commonName, domain, false);
    return new CertificateAuthority(certificate, privateKey, commonName);
  }

  /** A new one that `open` takes. */
  static async createLasting({ commonName, domain }: AuthorityOptions): Promise<CertificateAndKey> {
    const { certificate, privateKey } = await make(commonName, domain, true);
    return { cert: `${certificate.toString("pem")}\n`, key: `${await exportKey(privateKey)}\n` };
  }

  /** Rejects when the two are not whole, or do not belong together. */
  static async open({ cert, key }: CertificateAndKey, commonName: string): Promise<CertificateAuthority> {
    if (!new NodeCertificate(cert).checkPrivateKey(createPrivateKey(key)))
      throw new Error("The key is not that of the certificate");
    const [bytes] = PemConverter.decode(key);
    if (bytes === undefined) throw new Error("There is no key");
    const privateKey = await webcrypto.subtle.importKey("pkcs8", bytes, ALGORITHM, false, ["sign"]);
    return new CertificateAuthority(new X509Certificate(cert), privateKey, commonName);
  }

  /** Until when it is good, in epoch milliseconds. */
  get expiresAtMs(): number {
    return this.#certificate.notAfter.getTime();
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
    return createSecureContext(await this.issue([name]));
  }

  /** A new key with a certificate for these names. */
  async issue(names: readonly string[], options: IssueOptions = {}): Promise<CertificateAndKey> {
    const keys = await webcrypto.subtle.generateKey(ALGORITHM, true, ["sign", "verify"]);
    return { cert: await this.#certify(keys.publicKey, names, options), key: await exportKey(keys.privateKey) };
  }

  /**
   * A certificate for the key of a signing request, in PEM form, for these names: what the request says of itself is not looked at. Rejects for what is not a
   * request on P-256 that was signed with its own key.
   */
  async sign(request: string, names: readonly string[], options: IssueOptions = {}): Promise<string> {
    const { publicKey } = await verifyRequest(request);
    return this.#certify(await publicKey.export(ALGORITHM, ["verify"]), names, options);
  }

  async #certify(
    publicKey: webcrypto.CryptoKey,
    names: readonly string[],
    { usage = "server", lifetimeMs = LEAF_MS }: IssueOptions,
  ): Promise<string> {
    const nowMs = Date.now();
    const leaf = await X509CertificateGenerator.create({
      serialNumber: newSerial(),
      // A name itself may be longer than a common name can be; clients read the alternative names.
      subject: `CN=${this.#commonName}`,
      issuer: this.#certificate.subject,
      notBefore: new Date(nowMs - BACKDATED_MS),
      notAfter: new Date(Math.min(nowMs + lifetimeMs, this.expiresAtMs)),
      signingAlgorithm: ALGORITHM,
      publicKey,
      signingKey: this.#privateKey,
      extensions: [
        new BasicConstraintsExtension(false, undefined, true),
        new KeyUsagesExtension(KeyUsageFlags.digitalSignature, true),
        new ExtendedKeyUsageExtension([ExtendedKeyUsage[usage === "server" ? "serverAuth" : "clientAuth"]]),
        new SubjectAlternativeNameExtension(names.map((value) => ({ type: "dns", value }))),
        // Python 3.13 insists on both identifiers (RFC 5280, sections 4.2.1.1 and 4.2.1.2).
        await SubjectKeyIdentifierExtension.create(publicKey),
        await AuthorityKeyIdentifierExtension.create(await this.#certificate.publicKey.export()),
      ],
    });
    return leaf.toString("pem");
  }
}

/** A new key that an authority can sign for, in PEM form. */
export function createKey(): string {
  const { privateKey } = generateKeyPairSync("ec", { namedCurve: ALGORITHM.namedCurve });
  return privateKey.export({ type: "pkcs8", format: "pem" }).toString();
}

/** What an authority needs to sign for a key, in PEM form. */
export async function createSigningRequest(key: string, commonName: string): Promise<string> {
  const { subtle } = webcrypto;
  const [bytes] = PemConverter.decode(key);
  if (bytes === undefined) throw new Error("There is no key");
  const spki = createPublicKey(key).export({ type: "spki", format: "der" });
  const keys = {
    privateKey: await subtle.importKey("pkcs8", bytes, ALGORITHM, false, ["sign"]),
    publicKey: await subtle.importKey("spki", spki, ALGORITHM, true, ["verify"]),
  };
  const name = `CN=${commonName}`;
  const request = await Pkcs10CertificateRequestGenerator.create({ name, keys, signingAlgorithm: ALGORITHM });
  return request.toString("pem");
}

/** SHA-256 of the public key in a signing request, in hex. Rejects as `sign` does. */
export async function fingerprintOfRequest(request: string): Promise<string> {
  const { publicKey } = await verifyRequest(request);
  return createHash("sha256").update(Buffer.from(publicKey.rawData)).digest("hex");
}

async function verifyRequest(request: string): Promise<Pkcs10CertificateRequest> {
  const parsed = new Pkcs10CertificateRequest(request);
  if (!(await parsed.verify())) throw new Error("The request was not signed with its own key");
  await parsed.publicKey.export(ALGORITHM, ["verify"]);
  return parsed;
}

async function exportKey(key: webcrypto.CryptoKey): Promise<string> {
  return PemConverter.encode(await webcrypto.subtle.exportKey("pkcs8", key), "PRIVATE KEY");
}

async function make(
  commonName: string,
  domain: string | undefined,
  isExtractable: boolean,
): Promise<{ readonly certificate: X509Certificate; readonly privateKey: webcrypto.CryptoKey }> {
  const keys = await webcrypto.subtle.generateKey(ALGORITHM, isExtractable, ["sign", "verify"]);
  const nowMs = Date.now();
  const certificate = await X509CertificateGenerator.createSelfSigned({
    serialNumber: newSerial(),
    name: `CN=${commonName} ${randomBytes(4).toString("hex")}`,
    notBefore: new Date(nowMs - BACKDATED_MS),
    notAfter: new Date(nowMs + AUTHORITY_MS),
    signingAlgorithm: ALGORITHM,
    keys,
    extensions: [
      new BasicConstraintsExtension(true, 0, true),
      new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign, true),
      await SubjectKeyIdentifierExtension.create(keys.publicKey),
      ...(domain === undefined ? [] : [constrainedTo(domain)]),
    ],
  });
  return { certificate, privateKey: keys.privateKey };
}

/** The domain and names below it, and no addresses. */
function constrainedTo(domain: string): Extension {
  const subtree = (name: Partial<GeneralName>): GeneralSubtree => new GeneralSubtree({ base: new GeneralName(name) });
  const constraints = new NameConstraints({
    permittedSubtrees: new GeneralSubtrees([subtree({ dNSName: domain })]),
    excludedSubtrees: new GeneralSubtrees([subtree({ iPAddress: "0.0.0.0/0" }), subtree({ iPAddress: "::/0" })]),
  });
  return new Extension(id_ce_nameConstraints, true, AsnConvert.serialize(constraints));
}

/** Positive, and of full length. */
function newSerial(): string {
  const bytes = randomBytes(16);
  bytes.writeUInt8((bytes.readUInt8(0) & 0x3f) | 0x40, 0);
  return bytes.toString("hex");
}
