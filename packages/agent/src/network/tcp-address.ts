/** Where a process accepts connections. */
export type ListeningAddress =
  | { readonly transport: "tcp"; readonly hostname: string; readonly port: number }
  | { readonly transport: "unix"; readonly path: string };

/** `0100007F:1F90` is 127.0.0.1:8080: 32-bit words in hexadecimal, each in the machine's byte order, which is little-endian here. */
export function parseTcpAddress(text: string): ListeningAddress {
  const [address = "", port = ""] = text.split(":");
  const words = address.match(/.{8}/g) ?? [];
  const bytes = words.flatMap((word) => (word.match(/../g) ?? []).reverse().map((byte) => Number.parseInt(byte, 16)));
  return { transport: "tcp", hostname: reachable(bytes), port: Number.parseInt(port, 16) };
}

/** A listener on all addresses is reached on the loopback one; those on all of IPv6 take IPv4 as well. */
function reachable(bytes: readonly number[]): string {
  const isWildcard = bytes.every((byte) => byte === 0);
  if (isWildcard) return "127.0.0.1";
  const isMapped =
    bytes.length === 16 && bytes.slice(0, 10).every((byte) => byte === 0) && bytes[10] === 255 && bytes[11] === 255;
  if (bytes.length === 4 || isMapped) return bytes.slice(-4).join(".");
  const groups = Array.from({ length: 8 }, (_, index) =>
    ((bytes[2 * index] ?? 0) * 256 + (bytes[2 * index + 1] ?? 0)).toString(16),
  );
  return groups.join(":");
}
