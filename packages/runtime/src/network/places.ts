import type { IdRange } from "@caisson/linux";
import { CaissonError } from "@caisson/model";
import { formatAddress, overlaps, parseSubnet, type Subnet } from "./address.ts";

export const IDS_PER_SANDBOX = 65536;

/** More than three are never asked (resolv.conf(5)). */
export const NAME_SERVERS_MAX = 3;

const BLOCK_PREFIX_LENGTH = 24;
const BLOCK_SIZE = 2 ** (32 - BLOCK_PREFIX_LENGTH);
/** 15 times 256 ranges of ids fit between those that systemd gives away (its UIDS-GIDS.md). */
export const BLOCK_COUNT = 15;
const FIRST_HOST_ID = 0x70000000;
/** Each has room for the networks of all blocks. Where a host uses one of them itself, another one is free. */
const AUTOMATIC_NETWORKS = ["10.213.0.0/20", "172.30.208.0/20", "192.168.208.0/20"].map(parseSubnet);

/** All addresses of a block's network but the first, those of name servers, of which one is the gateway's, and the last. */
export const PLACES_PER_BLOCK = BLOCK_SIZE - 2 - NAME_SERVERS_MAX;

/** What a server has where nobody asks for more: one block. */
export const PLACES_DEFAULT = PLACES_PER_BLOCK;

/** The ids and the address that one sandbox of the instance has at a time. */
export interface Slot {
  readonly index: number;
  readonly ids: IdRange;
  readonly address: string;
}

/** What an instance has to itself on the host: a network of 256 addresses, and 256 ranges of ids. */
export interface Block {
  readonly network: Subnet;
  readonly firstHostId: number;
}

/** Blocks for so many sandboxes. */
export function blocksFor(placeCount: number): number {
  return Math.ceil(placeCount / PLACES_PER_BLOCK);
}

/** The first of the ids of a block, by its number on the host. */
export function firstHostIdOf(block: number): number {
  return FIRST_HOST_ID + block * BLOCK_SIZE * IDS_PER_SANDBOX;
}

/**
 * Networks that a block may have, by its number on the host, the preferred one first: of `subnet` any, otherwise one of each automatic network. None of
 * those overlaps with what is `used`.
 */
export function networksFor(block: number, subnet: Subnet | null, used: readonly Subnet[]): readonly Subnet[] {
  if (subnet !== null)
    return Array.from({ length: 2 ** (BLOCK_PREFIX_LENGTH - subnet.prefixLength) }, (_, index) => part(subnet, index));
  return AUTOMATIC_NETWORKS.map((network) => part(network, block)).filter(
    (network) => !used.some((other) => overlaps(network, other)),
  );
}

/** The first places of the blocks, in their order: a place has the same address and ids however many places there are behind it. */
export function slotsOf(blocks: readonly Block[], count: number): readonly Slot[] {
  const slots = blocks.flatMap(({ network, firstHostId }, block) =>
    Array.from({ length: PLACES_PER_BLOCK }, (_, index) => ({
      index: block * PLACES_PER_BLOCK + index,
      ids: { firstHostId: firstHostId + index * IDS_PER_SANDBOX, count: IDS_PER_SANDBOX },
      address: formatAddress(network.base + 1 + NAME_SERVERS_MAX + index),
    })),
  );
  return slots.slice(0, count);
}

/** Reads the network that the settings name. Throws `INVALID_CONFIG`. */
export function parseSandboxSubnet(text: string): Subnet {
  const subnet = tryParseSubnet(text);
  if (subnet !== null && subnet.prefixLength >= SUBNET_PREFIX_MIN && subnet.prefixLength <= BLOCK_PREFIX_LENGTH)
    return subnet;
  throw new CaissonError(
    "INVALID_CONFIG",
    `network.subnet is ${JSON.stringify(text)}: give the first address of a network of 256 to 65,536 addresses and its length, for example "10.99.0.0/22", which has places for ${4 * PLACES_PER_BLOCK} sandboxes`,
  );
}

const SUBNET_PREFIX_MIN = 16;

export function describeAutomaticNetworks(): string {
  return AUTOMATIC_NETWORKS.map(({ base, prefixLength }) => `${formatAddress(base)}/${prefixLength}`).join(", ");
}

function tryParseSubnet(text: string): Subnet | null {
  try {
    return parseSubnet(text);
  } catch (error) {
    if (error instanceof CaissonError) return null;
    throw error;
  }
}

function part({ base }: Subnet, index: number): Subnet {
  return { base: base + index * BLOCK_SIZE, prefixLength: BLOCK_PREFIX_LENGTH };
}
