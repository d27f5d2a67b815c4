import { CaissonError } from "@caisson/model";

/** An IPv4 network. */
export interface Subnet {
  /** The first address as a number. */
  readonly base: number;
  readonly prefixLength: number;
}

/** Reads `10.213.0.0/20`. Throws `INVALID_REQUEST` when it is no network address. */
export function parseSubnet(text: string): Subnet {
  const [address = "", length = "32"] = text.split("/");
  const subnet = { base: parseAddress(address), prefixLength: Number(length) };
  const isValid = Number.isInteger(subnet.prefixLength) && subnet.prefixLength >= 0 && subnet.prefixLength <= 32;
  if (isValid && (subnet.base & hostMask(subnet.prefixLength)) === 0) return subnet;
  throw new CaissonError(
    "INVALID_REQUEST",
    `Invalid network ${JSON.stringify(text)}: give the first address and a length, for example "10.213.0.0/20"`,
  );
}

export function parseAddress(text: string): number {
  const parts = text.split(".").map((part) => (/^\d{1,3}$/.test(part) ? Number(part) : 256));
  if (parts.length === 4 && parts.every((part) => part < 256))
    return parts.reduce((value, part) => value * 256 + part, 0);
  throw new CaissonError(
    "INVALID_REQUEST",
    `Invalid IPv4 address ${JSON.stringify(text)}: give four numbers from 0 to 255`,
  );
}

export function formatAddress(address: number): string {
  return [24, 16, 8, 0].map((shift) => (address >>> shift) & 255).join(".");
}

export function formatSubnet({ base, prefixLength }: Subnet): string {
  return `${formatAddress(base)}/${prefixLength}`;
}

export function overlaps(one: Subnet, other: Subnet): boolean {
  const mask = ~hostMask(Math.min(one.prefixLength, other.prefixLength));
  return (one.base & mask) === (other.base & mask);
}

function hostMask(prefixLength: number): number {
  return prefixLength === 0 ? -1 : 2 ** (32 - prefixLength) - 1;
}
