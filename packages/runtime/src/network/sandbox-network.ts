import { createHash } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { runTool, step } from "@caisson/linux";
import { CaissonError } from "@caisson/model";
import { EgressGuard } from "../egress/egress-guard.ts";
import { formatAddress, formatSubnet, parseAddress, parseSubnet, type Subnet } from "./address.ts";
import { type ClaimedBlocks, COMMON_PREFIX, claimBlocks } from "./claim-blocks.ts";
import { type PreparedNamespaces, prepareNamespaces } from "./namespaces.ts";
import { changePacketFilter } from "./packet-filter.ts";
import { blocksFor, NAME_SERVERS_MAX, PLACES_DEFAULT, parseSandboxSubnet, type Slot, slotsOf } from "./places.ts";
import { formatResolvConf, readResolvers, readSearchLines } from "./resolvers.ts";
import { FORBIDDEN_NETWORKS, PRIVATE_NETWORKS, ruleset } from "./ruleset.ts";

export interface NetworkOptions {
  /** Where the addresses of this instance's sandboxes are. Default: networks that the host does not use. */
  readonly subnet?: string;
  /** IPv4 name servers for sandboxes. Default: those of the host. */
  readonly nameServers?: readonly string[];
  /** Let sandboxes reach private networks (RFC 1918, RFC 6598). Default: false. */
  readonly isPrivateAllowed?: boolean;
  /** Further networks that sandboxes must not reach. */
  readonly blockedNetworks?: readonly string[];
  /** Sandboxes that are to have an address at a time. Default: 251, which is one block. */
  readonly placeCount?: number;
  /** The place that is given out first, for tests of high ones. Default: 0. */
  readonly firstPlace?: number;
  /** How long an address stays open at least after a sandbox with a list of destinations has resolved its name. Default: 300. */
  readonly grantSecondsMin?: number;
}

const GRANT_SECONDS_MIN = 300;

/** The network of one server instance: rules, addresses, name resolution. */
export class SandboxNetwork implements AsyncDisposable {
  readonly #claimed: ClaimedBlocks;
  readonly #gateway: string;
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
    claimed: ClaimedBlocks,
    slots: Slot[],
    names: { readonly gateway: string; readonly table: string; readonly interfacePrefix: string },
    resolvConf: string,
    hasNameServer: boolean,
    egress: EgressGuard,
  ) {
    this.#claimed = claimed;
    this.#gateway = names.gateway;
    this.#table = names.table;
    this.#interfacePrefix = names.interfacePrefix;
    this.#freeSlots = slots;
    this.slotCount = slots.length;
    this.resolvConf = resolvConf;
    this.hasNameServer = hasNameServer;
    this.egress = egress;
  }

  /** Removes what an instance of the same name left, and sets up this one, for fewer sandboxes where there are not enough networks. */
  static async open(instance: string, options: NetworkOptions = {}): Promise<SandboxNetwork> {
    const table = `caisson_${instance.replaceAll("-", "_")}`;
    const interfacePrefix = `${COMMON_PREFIX}${nameHash(instance)}`;
    const resolvers = options.nameServers ?? (await readResolvers());
    for (const server of resolvers) parseAddress(server);
    await removeInterfaces(interfacePrefix);
    const placeCount = options.placeCount ?? PLACES_DEFAULT;
    const subnet = options.subnet === undefined ? null : parseSandboxSubnet(options.subnet);
    const claimed = await claimBlocks(blocksFor(placeCount), subnet);
    try {
      const networks = claimed.blocks.map(({ network }) => network);
      const nameServers = nameServersOf(networks, resolvers);
      const gateway = gatewayOf(networks);
      const blockedNetworks = [
        ...FORBIDDEN_NETWORKS,
        ...(options.isPrivateAllowed === true ? [] : PRIVATE_NETWORKS),
        ...(options.blockedNetworks ?? []).map((text) => formatSubnet(parseSubnet(text))),
      ];
      const rules = ruleset({
        table,
        interfacePrefix,
        commonPrefix: COMMON_PREFIX,
        networks: networks.map(formatSubnet),
        nameServers,
        blockedNetworks,
      });
      await step("network.rules", () => changePacketFilter(rules));
      await enableForwarding();
      const resolvConf = formatResolvConf([...nameServers.keys()], await readSearchLines());
      const egress = new EgressGuard({
        table,
        gateway,
        resolvers,
        // Sandboxes are closed to each other, through the server too.
        closedNetworks: [...blockedNetworks, ...networks.map(formatSubnet)],
        grantSecondsMin: options.grantSecondsMin ?? GRANT_SECONDS_MIN,
      });
      const slots = slotsOf(claimed.blocks, placeCount);
      const first = options.firstPlace ?? 0;
      const inTurn = [...slots.slice(first), ...slots.slice(0, first)];
      const names = { gateway, table, interfacePrefix };
      return new SandboxNetwork(claimed, inTurn, names, resolvConf, resolvers.length > 0, egress);
    } catch (error) {
      await claimed[Symbol.asyncDispose]();
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
      const namespaces = await prepareNamespaces(slot, linkName, this.#gateway);
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
    await this.#claimed[Symbol.asyncDispose]();
  }
}

/** One for all blocks. Inside, every way out leads to it, so that it need not be in the network of the sandbox's own address. */
function gatewayOf([first]: readonly Subnet[]): string {
  return nameServerAddress(first, 0);
}

/**
 * Where sandboxes send name queries, and which of the host's name servers each is led to. A library asks the next address when one is silent, so
 * each server has an address of its own; the first is the gateway's. Nothing answers there but the server that queries are led to.
 */
function nameServersOf([first]: readonly Subnet[], resolvers: readonly string[]): ReadonlyMap<string, string> {
  return new Map(
    resolvers.slice(0, NAME_SERVERS_MAX).map((resolver, index) => [nameServerAddress(first, index), resolver]),
  );
}

function nameServerAddress(network: Subnet | undefined, index: number): string {
  if (network === undefined) throw new Error("A sandbox network has no block");
  return formatAddress(network.base + 1 + index);
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

/** The host must forward packets, as for any container network. It is left on at the end, since others may have come to rely on it. */
async function enableForwarding(): Promise<void> {
  const path = "/proc/sys/net/ipv4/ip_forward";
  if ((await readFile(path, "utf8")).trim() !== "1") await writeFile(path, "1");
}
