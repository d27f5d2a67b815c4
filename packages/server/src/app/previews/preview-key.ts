import { createHmac, randomBytes, timingSafeEqual } from "node:crypto";
import { hashToken } from "../access/token-hash.ts";

/** The page of a private preview that turns a signed link into a cookie. */
export const OPEN_PATH = "/.caisson/open";

/**
 * What opens one private preview: its token, and what its secret has signed. The token is kept as a hash; the secret never leaves the process, and
 * with the preview both are gone.
 */
export class PreviewKey {
  readonly #secret = randomBytes(32);
  readonly #tokenHash: Uint8Array;

  private constructor(token: string) {
    this.#tokenHash = hashToken(token);
  }

  static create(): { readonly key: PreviewKey; readonly token: string } {
    const token = `cpt_${randomBytes(24).toString("base64url")}`;
    return { key: new PreviewKey(token), token };
  }

  isToken(text: string): boolean {
    return timingSafeEqual(hashToken(text), this.#tokenHash);
  }

  /** A path that opens the preview in a browser until then, and leads to `target`, a path. */
  signLink(untilMs: number, target: string): string {
    const query = new URLSearchParams({
      until: String(untilMs),
      to: target,
      signature: this.#sign(`link\n${untilMs}\n${target}`),
    });
    return `${OPEN_PATH}?${query}`;
  }

  /** What a signed link says; null for one that this key has not signed, and for one whose time is over. */
  readLink(query: URLSearchParams, nowMs: number): { readonly untilMs: number; readonly target: string } | null {
    const untilMs = Number(query.get("until"));
    const target = query.get("to") ?? "";
    const isSigned = this.#isSigned(`link\n${untilMs}\n${target}`, query.get("signature") ?? "");
    return isSigned && nowMs < untilMs ? { untilMs, target } : null;
  }

  /** The value of the cookie of a browser that has followed a link. */
  signCookie(untilMs: number): string {
    return `${untilMs}.${this.#sign(`cookie\n${untilMs}`)}`;
  }

  isCookie(value: string, nowMs: number): boolean {
    const [until = "", signature = ""] = value.split(".", 2);
    return this.#isSigned(`cookie\n${until}`, signature) && nowMs < Number(until);
  }

  #sign(text: string): string {
    return createHmac("sha256", this.#secret).update(text).digest("base64url");
  }

  #isSigned(text: string, signature: string): boolean {
    return timingSafeEqual(hashToken(this.#sign(text)), hashToken(signature));
  }
}
