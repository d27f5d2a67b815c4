import type { IncomingMessage } from "node:http";
import { type BlockList, isIPv6, type Socket } from "node:net";
import { CaissonError } from "@caisson/model";

/** A name, an IPv4 address, or an IPv6 address in brackets; then a port. */
const HOST = /^(?:[a-z0-9_](?:[a-z0-9._-]{0,253}[a-z0-9_])?\.?|\[([0-9a-f:.]{2,45})\])(?::(\d{1,5}))?$/i;

/** Throws `INVALID_REQUEST` unless the request says once, and readably, for which host it is (RFC 9112, section 3.2). HTTP/1.0 may say nothing. */
export function requireHost({ rawHeaders, httpVersionMajor, httpVersionMinor }: IncomingMessage): void {
  const hosts = rawHeaders.filter((_text, index) => index % 2 === 1 && rawHeaders[index - 1]?.toLowerCase() === "host");
  const [host] = hosts;
  if (host === undefined && httpVersionMajor === 1 && httpVersionMinor === 0) return;
  if (hosts.length !== 1) {
    throw new CaissonError("INVALID_REQUEST", `Send one Host header: the request has ${hosts.length || "none"}`);
  }
  requireHostText("Host", host ?? "");
}

/**
 * Where the client sent the request. A proxy that the settings name is believed about it (`X-Forwarded-Host`, `X-Forwarded-Proto`, the last value of
 * each); nobody else is. Throws `INVALID_REQUEST` when such a proxy passes on what is no host.
 */
export function originOfRequest(
  request: IncomingMessage,
  proxies: BlockList,
): { readonly protocol: string; readonly host: string } {
  const { socket, headers } = request;
  const isProxy = isFromProxy(socket, proxies);
  const forwardedHost = isProxy ? lastOf(headers["x-forwarded-host"]) : null;
  if (forwardedHost !== null) requireHostText("X-Forwarded-Host", forwardedHost);
  const forwardedProtocol = isProxy ? lastOf(headers["x-forwarded-proto"])?.toLowerCase() : null;
  const isKnown = forwardedProtocol === "http" || forwardedProtocol === "https";
  const own = "encrypted" in socket ? "https" : "http";
  return { protocol: isKnown ? forwardedProtocol : own, host: forwardedHost ?? headers.host ?? localHost(socket) };
}

function isFromProxy({ remoteAddress, remoteFamily }: Socket, proxies: BlockList): boolean {
  return remoteAddress !== undefined && proxies.check(remoteAddress, remoteFamily === "IPv6" ? "ipv6" : "ipv4");
}

function requireHostText(header: string, text: string): void {
  const match = HOST.exec(text);
  const isAddress = match?.[1] === undefined || isIPv6(match[1]);
  if (match !== null && isAddress && Number(match[2] ?? 0) <= 65_535) return;
  const shown = JSON.stringify(text.slice(0, 64));
  throw new CaissonError(
    "INVALID_REQUEST",
    `The header ${header} is ${shown}: give a host name or address, and a port if it is not the usual one`,
  );
}

function lastOf(value: string | readonly string[] | undefined): string | null {
  const last = [value ?? []].flat().join(",").split(",").at(-1)?.trim();
  return last === undefined || last === "" ? null : last;
}

function localHost({ localAddress = "127.0.0.1", localPort = 0 }: Socket): string {
  return `${localAddress.includes(":") ? `[${localAddress}]` : localAddress}:${localPort}`;
}
