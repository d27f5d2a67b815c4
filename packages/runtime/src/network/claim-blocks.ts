import { networkInterfaces } from "node:os";
import { runTool, step, UndoStack } from "@caisson/linux";
import { CaissonError } from "@caisson/model";
import { formatAddress, formatSubnet, overlaps, parseSubnet, type Subnet } from "./address.ts";
import { tryHostClaim } from "./host-claim.ts";
import {
  BLOCK_COUNT,
  type Block,
  describeAutomaticNetworks,
  firstHostIdOf,
  networksFor,
  PLACES_PER_BLOCK,
  parseSandboxSubnet,
} from "./places.ts";
import { readResolvers } from "./resolvers.ts";

/** Blocks that no other server of the host has until this is disposed of. */
export interface ClaimedBlocks extends AsyncDisposable {
  readonly blocks: readonly Block[];
}

/**
 * Claims as many blocks as are wanted, or as there are: at least one. `subnet`: where their networks are to be; null: where the host uses none itself.
 * Throws `INVALID_CONFIG`.
 */
export async function claimBlocks(wanted: number, subnet: Subnet | null): Promise<ClaimedBlocks> {
  const used = subnet === null ? await usedNetworks() : [];
  if (subnet !== null) requireForeign(subnet);
  await using undo = new UndoStack();
  const blocks: Block[] = [];
  for (let number = 0; number < BLOCK_COUNT && blocks.length < wanted; number += 1) {
    const block = await tryBlock(number, networksFor(number, subnet, used), undo);
    if (block !== null) blocks.push(block);
  }
  if (blocks.length === 0) throw noneFree(subnet);
  const claims = undo.move();
  return { blocks, [Symbol.asyncDispose]: () => claims[Symbol.asyncDispose]() };
}

/** Sandboxes that the host's own use of networks leaves addresses for, in `network.subnet` if there is one, for all servers together. */
export async function countPlaces(subnet?: string): Promise<number> {
  const chosen = subnet === undefined ? null : parseSandboxSubnet(subnet);
  if (chosen !== null) return Math.min(networksFor(0, chosen, []).length, BLOCK_COUNT) * PLACES_PER_BLOCK;
  const used = await usedNetworks((device) => !isOurs(device));
  const numbers = Array.from({ length: BLOCK_COUNT }, (_, number) => number);
  return numbers.filter((number) => networksFor(number, null, used).length > 0).length * PLACES_PER_BLOCK;
}

async function tryBlock(number: number, networks: readonly Subnet[], undo: UndoStack): Promise<Block | null> {
  if (networks.length === 0) return null;
  await using attempt = new UndoStack();
  const ids = await step("network.claim-block", () => tryHostClaim(`block-${number}`));
  if (ids === null) return null;
  attempt.use(ids);
  for (const network of networks) {
    const claim = await step("network.claim-network", () => tryHostClaim(`network-${formatAddress(network.base)}`));
    if (claim === null) continue;
    attempt.use(claim);
    undo.use(attempt.move());
    return { network, firstHostId: firstHostIdOf(number) };
  }
  return null;
}

function noneFree(subnet: Subnet | null): CaissonError {
  return new CaissonError(
    "INVALID_CONFIG",
    subnet === null
      ? `Cannot set up the sandbox network: all networks of ${describeAutomaticNetworks()} are in use on this host, or ${BLOCK_COUNT} servers are. Set network.subnet to a network that is free, or stop another server`
      : `Cannot set up the sandbox network: other servers on this host have all of network.subnet (${formatSubnet(subnet)}), or all ids for sandboxes. Set it to another network, or stop one of them`,
  );
}

/** The network that somebody chose may have a route, but must not hold an address of this host, which packets to sandboxes would then not pass. */
function requireForeign(subnet: Subnet): void {
  for (const [name, entries] of Object.entries(networkInterfaces())) {
    for (const { address, family } of entries ?? []) {
      if (family !== "IPv4" || isOurs(name) || !overlaps(subnet, parseSubnet(address))) continue;
      throw new CaissonError(
        "INVALID_CONFIG",
        `network.subnet (${formatSubnet(subnet)}) holds ${address}, the address of this host's interface ${name}. Choose a network that the host does not use`,
      );
    }
  }
}

/** Begins the names of the interfaces of every server on the host. */
export const COMMON_PREFIX = "csn";

function isOurs(name: string | undefined): boolean {
  return name?.startsWith(COMMON_PREFIX) === true;
}

/** Everything that the host has an address in or a route to, by the devices that count, and its name servers. */
async function usedNetworks(counts = (_device: string | undefined) => true): Promise<readonly Subnet[]> {
  const routes = JSON.parse(await runTool("ip", ["-json", "-4", "route", "show", "table", "all"])) as readonly {
    readonly dst: string;
    readonly dev?: string;
  }[];
  const targets = [...routes.filter(({ dev }) => counts(dev)).map(({ dst }) => dst), ...(await readResolvers())];
  return targets.filter((text) => /^\d/.test(text)).map((text) => parseSubnet(text));
}
