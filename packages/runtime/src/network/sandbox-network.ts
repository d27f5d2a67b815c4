import { createHash } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { runTool, step } from "@caisson/linux";
import { CaissonError } from "@caisson/model";
import { EgressGuard } from "../egress/egress-guard.ts";
import { formatAddress, formatSubnet, overlaps, parseAddress, parseSubnet, type Subnet } from "./address.ts";
import { type HostClaim, tryHostClaim } from "./host-claim.ts";
import { IDS_PER_SANDBOX, type PreparedNamespaces, prepareNamespaces, type Slot } from "./namespaces.ts";
import { changePacketFilter } from "./packet-filter.ts";
import { formatResolvConf, readResolvers, readSearchLines } from "./resolvers.ts";
import { FORBIDDEN_NETWORKS, PRIVATE_NETWORKS, ruleset } from "./ruleset.ts";

export interface NetworkOptions {
  /** Addresses of this instance's sandboxes. Default: a free /24 of 10.213.0.0/20. */
  readonly subnet?: string;
  /** IPv4 name servers for sandboxes. Default: those of the host. */
  readonly nameServers?: readonly string[];
  /** Let sandboxes reach private networks (RFC 1918, RFC 6598). Default: false. */
  readonly isPrivateAllowed?: boolean;
  /** Further networks that sandboxes must not reach. */
  readonly blockedNetworks?: readonly string[];
  /** How long an address stays open at least after a sandbox with a list of destinations has resolved its name. Default: 300. */
  readonly grantSecondsMin?: number;
}

const GRANT_SECONDS_MIN = 300;

/** More than three are never asked (resolv.conf(5)). */
const NAME_SERVERS_MAX = 3;

const COMMON_PREFIX = "csn";
const AUTOMATIC_PREFIX_LENGTH = 24;
const AUTOMATIC_BASE = parseAddress("10.213.0.0");
/** Blocks of one /24 of addresses and 256 id ranges; 15 of them fit between the ids that systemd gives away (its UIDS-GIDS.md). */
const BLOCK_COUNT = 15;
const SANDBOXES_PER_BLOCK = 2 ** (32 - AUTOMATIC_PREFIX_LENGTH);
const FIRST_HOST_ID = 0x70000000;
/** All but the first address, those of name servers, of which one is the gateway's, and the last. */
export const SANDBOXES_MAX = SANDBOXES_PER_BLOCK - 2 - NAME_SERVERS_MAX;

/** What an instance has to itself on the host. */
interface Block {
  readonly subnet: Subnet;
  readonly firstHostId: number;
  readonly claim: HostClaim;
}

/** The network of one server instance: rules, addresses, name resolution. */
export class SandboxNetwork implements AsyncDisposable {
  readonly #block: Block;
  readonly #table: string;
  readonly #interfacePrefix: string;
  /** Used from the front and given back at the end, so that nothing is used again while the kernel is still removing what had it before. */
  readonly #freeSlots: Slot[];
  /** Sandboxes that can have an address at a time. */
  readonly slotCount: number;
  #linkCount = 0;
  /** The text of `/etc/resolv.conf` inside. */
  readonly resolvConf: string;
  /** Whether names resolve inside: false when the host has name servers on its loopback interface only. */
  readonly hasNameServer: boolean;
  /** Enforces the policies of single sandboxes. */
  readonly egress: EgressGuard;

  private constructor(
    block: Block,
    names: { readonly table: string; readonly interfacePrefix: string },
    resolvConf: string,
    hasNameServer: boolean,
    egress: EgressGuard,
  ) {
    this.#block = block;
    this.#table = names.table;
    this.#interfacePrefix = names.interfacePrefix;
    this.#freeSlots = slotsOf(block);
    this.slotCount = this.#freeSlots.length;
    this.resolvConf = resolvConf;
    this.hasNameServer = hasNameServer;
    this.egress = egress;
  }

  /** Removes what an instance of the same name left, and sets up this one. */
  static async open(instance: string, options: NetworkOptions = {}): Promise<SandboxNetwork> {
    const table = `caisson_${instance.replaceAll("-", "_")}`;
    const interfacePrefix = `${COMMON_PREFIX}${nameHash(instance)}`;
    const resolvers = options.nameServers ?? (await readResolvers());
    for (const server of resolvers) parseAddress(server);
    await removeInterfaces(interfacePrefix);
    const block = await claimBlock(options.subnet);
    try {
      const gateway = gatewayOf(block.subnet);
      const blockedNetworks = [
        ...FORBIDDEN_NETWORKS,
        ...(options.isPrivateAllowed === true ? [] : PRIVATE_NETWORKS),
        ...(options.blockedNetworks ?? []).map((text) => formatSubnet(parseSubnet(text))),
      ];
      const rules = ruleset({
        table,
        interfacePrefix,
        commonPrefix: COMMON_PREFIX,
        subnet: formatSubnet(block.subnet),
        nameServers: nameServersOf(block.subnet, resolvers),
        blockedNetworks,
      });
      await step("network.rules", () => changePacketFilter(rules));
      await enableForwarding();
      const resolvConf = formatResolvConf([...nameServersOf(block.subnet, resolvers).keys()], await readSearchLines());
      const egress = new EgressGuard({
        table,
        gateway,
        resolvers,
        // Sandboxes are closed to each other, through the server too.
        closedNetworks: [...blockedNetworks, formatSubnet(block.subnet)],
        grantSecondsMin: options.grantSecondsMin ?? GRANT_SECONDS_MIN,
      });
      return new SandboxNetwork(block, { table, interfacePrefix }, resolvConf, resolvers.length > 0, egress);
    } catch (error) {
      await block.claim[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Makes the namespaces of one more sandbox: three processes, about 10 ms. */
  async prepare(): Promise<PreparedNamespaces> {
    const slot = this.#freeSlots.shift();
    if (slot === undefined) {
      throw new CaissonError(
        "SERVER_FULL",
        `Cannot start another sandbox: all ${this.slotCount} addresses of this server are in use. Try again when a sandbox has ended`,
      );
    }
    this.#linkCount += 1;
    const linkName = `${this.#interfacePrefix}${this.#linkCount.toString(36)}`;
    try {
      const gateway = gatewayOf(this.#block.subnet);
      const namespaces = await prepareNamespaces(slot, linkName, gateway);
      return {
        ...namespaces,
        [Symbol.asyncDispose]: async () => {
          await namespaces[Symbol.asyncDispose]();
          this.#freeSlots.push(slot);
        },
      };
    } catch (error) {
      this.#freeSlots.push(slot);
      throw error;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.egress[Symbol.asyncDispose]();
    await changePacketFilter(`table inet ${this.#table}\ndelete table inet ${this.#table}\n`);
    await this.#block.claim[Symbol.asyncDispose]();
  }
}

function gatewayOf({ base }: Subnet): string {
  return formatAddress(base + 1);
}

/**
 * Where sandboxes send name queries, and which of the host's name servers each is led to. A library asks the next address when one is silent, so
 * each server has an address of its own; the first is the gateway's. Nothing answers there but the server that queries are led to.
 */
function nameServersOf({ base }: Subnet, resolvers: readonly string[]): ReadonlyMap<string, string> {
  return new Map(
    resolvers.slice(0, NAME_SERVERS_MAX).map((resolver, index) => [formatAddress(base + 1 + index), resolver]),
  );
}

/** All but the first address of the subnet, those of name servers, of which one is the gateway's, and the last. */
function slotsOf({ subnet, firstHostId }: Block): Slot[] {
  const count = Math.min(2 ** (32 - subnet.prefixLength) - 2 - NAME_SERVERS_MAX, SANDBOXES_PER_BLOCK);
  return Array.from({ length: count }, (_, index) => ({
    index,
    ids: { firstHostId: firstHostId + index * IDS_PER_SANDBOX, count: IDS_PER_SANDBOX },
    address: formatAddress(subnet.base + 1 + NAME_SERVERS_MAX + index),
  }));
}

/** Four characters by which interfaces of an instance are told from those of others; their names have room for no more. */
function nameHash(instance: string): string {
  const number = createHash("sha256").update(instance).digest().readUIntBE(0, 6);
  return number.toString(36).padStart(4, "0").slice(-4);
}

/** Interfaces outlive a killed server only when its namespaces do, for example in a test that was stopped half way. */
async function removeInterfaces(prefix: string): Promise<void> {
  const links = JSON.parse(await runTool("ip", ["-json", "link", "show"])) as readonly { readonly ifname: string }[];
  const names = links.map(({ ifname }) => ifname).filter((name) => name.startsWith(prefix));
  if (names.length === 0) return;
  // One that goes by itself meanwhile is as good as removed.
  await runTool("ip", ["-force", "-batch", "-"], { input: names.map((name) => `link del ${name}\n`).join("") }).catch(
    () => undefined,
  );
}

async function claimBlock(subnet: string | undefined): Promise<Block> {
  const used = subnet === undefined ? await usedSubnets() : [];
  for (let index = 0; index < BLOCK_COUNT; index += 1) {
    const automatic = { base: AUTOMATIC_BASE + index * SANDBOXES_PER_BLOCK, prefixLength: AUTOMATIC_PREFIX_LENGTH };
    if (used.some((other) => overlaps(automatic, other))) continue;
    const claim = await tryHostClaim(`block-${index}`);
    if (claim === null) continue;
    const firstHostId = FIRST_HOST_ID + index * SANDBOXES_PER_BLOCK * IDS_PER_SANDBOX;
    return { subnet: subnet === undefined ? automatic : parseSubnet(subnet), firstHostId, claim };
  }
  throw new CaissonError(
    "INVALID_CONFIG",
    `Cannot set up the sandbox network: ${BLOCK_COUNT} networks from ${formatAddress(AUTOMATIC_BASE)} on are in use on this host. Choose a free subnet in the configuration, or stop another server`,
  );
}

/** Everything that the host has an address in or a route to, and its name servers. */
async function usedSubnets(): Promise<readonly Subnet[]> {
  const routes = JSON.parse(await runTool("ip", ["-json", "-4", "route", "show", "table", "all"])) as readonly {
    readonly dst: string;
  }[];
  const targets = [...routes.map(({ dst }) => dst), ...(await readResolvers())];
  return targets.filter((text) => /^\d/.test(text)).map((text) => parseSubnet(text));
}

/** The host must forward packets, as for any container network. It is left on at the end, since others may have come to rely on it. */
async function enableForwarding(): Promise<void> {
  const path = "/proc/sys/net/ipv4/ip_forward";
  if ((await readFile(path, "utf8")).trim() !== "1") await writeFile(path, "1");
}
