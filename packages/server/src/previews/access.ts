import type { Preview } from "../app/previews/preview.ts";
import { OPEN_PATH } from "../app/previews/preview-key.ts";
import { pairs, type RawHeaders } from "./raw-headers.ts";

/** Carries the token of a private preview. */
export const PREVIEW_TOKEN_HEADER = "x-caisson-preview-token";
/** The prefix has browsers take it for this one host name only, and over TLS only (RFC 6265bis, section 4.1.3.2). */
export const PREVIEW_COOKIE = "__Host-caisson-preview";

/** What becomes of a request to a preview. */
export type Access =
  | { readonly kind: "open" }
  | { readonly kind: "closed" }
  /** A signed link was followed: the browser gets a cookie and is led on. */
  | { readonly kind: "enter"; readonly cookie: string; readonly location: string };

/** Whether the request may pass. A private preview takes its token, or the cookie that a signed link is exchanged for. */
export function accessOf({ key }: Preview, path: string, raw: RawHeaders): Access {
  if (key === null) return { kind: "open" };
  const nowMs = Date.now();
  if (path.startsWith(`${OPEN_PATH}?`)) {
    const link = key.readLink(new URLSearchParams(path.slice(OPEN_PATH.length)), nowMs);
    if (link === null) return { kind: "closed" };
    const seconds = Math.ceil((link.untilMs - nowMs) / 1000);
    const attributes = `Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=${seconds}`;
    return {
      kind: "enter",
      cookie: `${PREVIEW_COOKIE}=${key.signCookie(link.untilMs)}; ${attributes}`,
      location: link.target,
    };
  }
  for (const [name, value] of pairs(raw)) {
    if (name === PREVIEW_TOKEN_HEADER && key.isToken(value)) return { kind: "open" };
    if (name === "cookie" && cookiesOf(value).some((cookie) => key.isCookie(cookie, nowMs))) return { kind: "open" };
  }
  return { kind: "closed" };
}

function cookiesOf(header: string): readonly string[] {
  const prefix = `${PREVIEW_COOKIE}=`;
  return header
    .split(";")
    .map((part) => part.trim())
    .filter((part) => part.startsWith(prefix))
    .map((part) => part.slice(prefix.length));
}
