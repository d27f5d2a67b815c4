import { createHash, X509Certificate } from "node:crypto";
import { CaissonError } from "@caisson/model";

const PREFIX = "cjt_";

/** What the text of a token says. */
export interface JoinTokenText {
  /** Origin of the server that made it. */
  readonly url: string;
  /** `pinOf` the installation's authority. */
  readonly pin: string;
  readonly secret: string;
}

export function printJoinToken({ url, pin, secret }: JoinTokenText): string {
  return `${PREFIX}${Buffer.from(JSON.stringify([url, pin, secret])).toString("base64url")}`;
}

/** Throws `INVALID_CONFIG`. */
export function parseJoinToken(text: string): JoinTokenText {
  try {
    if (!text.startsWith(PREFIX)) throw new Error("it begins otherwise");
    const parts: unknown = JSON.parse(Buffer.from(text.slice(PREFIX.length), "base64url").toString());
    if (!Array.isArray(parts) || parts.length !== 3 || !parts.every((part) => typeof part === "string"))
      throw new Error("it has other parts");
    const [url, pin, secret] = parts as [string, string, string];
    if (!/^https?:$/.test(URL.parse(url)?.protocol ?? "")) throw new Error("it names no server");
    return { url, pin, secret };
  } catch (error) {
    throw new CaissonError(
      "INVALID_CONFIG",
      `That is no token for joining. Copy all of what "caisson nodes tokens create" printed on the server: it begins with ${PREFIX}`,
      { cause: error },
    );
  }
}

/** SHA-256 of a certificate, in hex. */
export function pinOf(certificatePem: string): string {
  return createHash("sha256").update(new X509Certificate(certificatePem).raw).digest("hex");
}
