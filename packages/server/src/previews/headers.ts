import { isIPv6 } from "node:net";
import type { Preview } from "../app/previews/preview.ts";
import { PREVIEW_COOKIE, PREVIEW_TOKEN_HEADER } from "./access.ts";
import { pairs, type RawHeaders } from "./raw-headers.ts";

/** Of one connection only (RFC 9110, section 7.6.1), and those whose meaning is this server's own. */
const HOP_BY_HOP = new Set([
  "connection",
  "keep-alive",
  "proxy-authenticate",
  "proxy-authorization",
  "proxy-connection",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
  "http2-settings",
]);
/** What a client says about how it came here is not to be believed; `expect` is answered here. */
const NOT_PASSED_IN = /^(?:x-forwarded-.*|forwarded|x-real-ip|host|expect|content-length)$/;
/** Another place for the same name would be one that nobody checks. */
const NOT_PASSED_OUT = new Set(["alt-svc"]);

/** How a request came to the preview. */
export interface RequestOrigin {
  /** `host` or `host:port`, as the client wrote it. */
  readonly authority: string;
  readonly clientAddress: string;
  readonly publicPort: number;
}

/** What the server inside gets, but for what frames the body. */
export function requestHeaders(raw: RawHeaders, preview: Preview, origin: RequestOrigin): string[] {
  const { authority, clientAddress, publicPort } = origin;
  const node = isIPv6(clientAddress) ? `"[${clientAddress}]"` : clientAddress;
  const isLocal = preview.isHostRewritten && preview.target !== null && "port" in preview.target;
  const headers = ["Host", isLocal ? `localhost:${portOf(preview)}` : authority];
  const connectionNames = namedByConnection(raw);
  const cookies: string[] = [];
  for (const [name, value] of pairs(raw)) {
    if (name.startsWith(":") || HOP_BY_HOP.has(name) || connectionNames.has(name) || NOT_PASSED_IN.test(name)) continue;
    if (name === PREVIEW_TOKEN_HEADER) continue;
    // HTTP/2 may send it in parts (RFC 9113, section 8.2.3).
    if (name === "cookie") cookies.push(...value.split(/; */));
    else headers.push(name, value);
  }
  const passed = cookies.filter((cookie) => !cookie.startsWith(`${PREVIEW_COOKIE}=`));
  if (passed.length > 0) headers.push("cookie", passed.join("; "));
  headers.push(
    ...["x-forwarded-for", clientAddress],
    ...["x-forwarded-host", authority],
    ...["x-forwarded-proto", "https"],
    ...["x-forwarded-port", String(publicPort)],
    // Without `host`: with a port it must stand in quotes (RFC 7239, section 4), which code-server takes for a part of the name.
    ...["forwarded", `for=${node};proto=https`],
  );
  return headers;
}

/** What the client gets of an answer's headers, several values of one name together. */
export function responseHeaders(raw: RawHeaders): Record<string, string | string[]> {
  const connectionNames = namedByConnection(raw);
  const headers: Record<string, string | string[]> = Object.create(null);
  for (const [name, value] of pairs(raw)) {
    if (HOP_BY_HOP.has(name) || connectionNames.has(name) || NOT_PASSED_OUT.has(name)) continue;
    const text = name === "set-cookie" ? withoutDomain(value) : value;
    const known = headers[name];
    headers[name] = known === undefined ? text : [known, text].flat();
  }
  return headers;
}

/** A cookie is for its own preview: one with a domain above it would reach the previews of others. */
function withoutDomain(cookie: string): string {
  return cookie
    .split(";")
    .filter((part, index) => index === 0 || !/^\s*domain\s*(?:=|$)/i.test(part))
    .join(";");
}

function namedByConnection(raw: RawHeaders): ReadonlySet<string> {
  const names = new Set<string>();
  for (const [name, value] of pairs(raw)) {
    if (name === "connection") for (const part of value.split(",")) names.add(part.trim().toLowerCase());
  }
  return names;
}

function portOf({ target }: Preview): number {
  return target !== null && "port" in target ? target.port : 0;
}
