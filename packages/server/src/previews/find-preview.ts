import type { IncomingMessage } from "node:http";
import type { Http2ServerRequest } from "node:http2";
import type { TLSSocket } from "node:tls";
import type { AppContext } from "../app/context.ts";
import type { Preview } from "../app/previews/preview.ts";
import type { RequestOrigin } from "./headers.ts";
import { pairs } from "./raw-headers.ts";
import type { Refusal } from "./refusal.ts";

export type Incoming = IncomingMessage | Http2ServerRequest;

/** The preview that a request is for, by its host name and nothing else. */
export function findPreview(
  app: AppContext,
  request: Incoming,
): { readonly preview: Preview; readonly origin: RequestOrigin } | Refusal {
  const authority = authorityOf(request);
  if (authority === null) return "bad-host";
  // Names of hosts are the same in either case (RFC 4343).
  const serverName = serverNameOf(request)?.toLowerCase();
  if (serverName !== undefined && serverName !== hostOf(authority)) return "misdirected";
  const preview = app.previews.find(authority);
  if (preview === null) return "not-found";
  return {
    preview,
    origin: { authority, clientAddress: clientAddress(app, request), publicPort: app.previews.publicPort },
  };
}

/** `Host`, or `:authority` of HTTP/2; null unless all that there are say the same one thing. */
function authorityOf({ rawHeaders, url }: Incoming): string | null {
  // A request to a proxy names its host in the target too (RFC 9112, section 3.2.2): nobody sends one here.
  if (url === undefined || !(url.startsWith("/") || url === "*")) return null;
  const named = new Set<string>();
  let count = 0;
  for (const [name, value] of pairs(rawHeaders)) {
    if (name !== "host" && name !== ":authority") continue;
    named.add(value.toLowerCase());
    if (name === "host") count += 1;
  }
  const [authority] = named;
  const isOne = named.size === 1 && count <= 1 && authority !== undefined;
  return isOne && /^[a-z0-9.-]+(?::\d{1,5})?$/.test(authority) ? authority : null;
}

/** The name for which a connection over TLS was opened; undefined where the client named none. */
function serverNameOf({ socket }: Incoming): string | undefined {
  return (socket as Partial<TLSSocket>).servername || undefined;
}

function hostOf(authority: string): string {
  return authority.replace(/:\d+$/, "");
}

/** The peer, or what a proxy that is trusted says of it. */
function clientAddress(app: AppContext, { socket, headers }: Incoming): string {
  const { remoteAddress = "", remoteFamily } = socket;
  const isProxy =
    remoteAddress !== "" && app.config.trustedProxies.check(remoteAddress, remoteFamily === "IPv6" ? "ipv6" : "ipv4");
  const forwarded = isProxy ? [headers["x-forwarded-for"] ?? []].flat().join(",").split(",").at(-1)?.trim() : undefined;
  const address = forwarded !== undefined && /^[0-9a-fA-F.:]{2,45}$/.test(forwarded) ? forwarded : remoteAddress;
  return address.replace(/^::ffff:/, "");
}
