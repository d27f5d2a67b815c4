import { createHash } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { runTool, step } from "@caisson/linux";
import { CaissonError } from "@caisson/model";
import { formatAddress, formatSubnet, overlaps, parseAddress, parseSubnet, type Subnet } from "./address.ts";
import { type Claim, tryClaim } from "./claim.ts";
import { IDS_PER_SANDBOX, NamespacePool, type PreparedNamespaces } from "./namespace-pool.ts";
import { readResolvers, readSearchLines } from "./resolvers.ts";
import { FORBIDDEN_NETWORKS, PRIVATE_NETWORKS, ruleset } from "./ruleset.ts";

export interface NetworkOptions {
  /** Addresses of this instance's sandboxes. Default: a free /23 of 10.213.0.0/20. */
  readonly subnet?: string;
  /** IPv4 name servers for sandboxes. Default: those of the host. */
  readonly nameServers?: readonly string[];
  /** Let sandboxes reach private networks (RFC 1918, RFC 6598). Default: false. */
  readonly isPrivateAllowed?: boolean;
  /** Further networks that sandboxes must not reach. */
  readonly blockedNetworks?: readonly string[];
  /** Namespaces kept ready. Default: 4. */
  readonly preparedCount?: number;
}

const COMMON_PREFIX = "csn";
const AUTOMATIC_PREFIX_LENGTH = 23;
const AUTOMATIC_BASE = parseAddress("10.213.0.0");
/** Blocks of one /23 of addresses and 512 id ranges; 7 of them fit between the ids that systemd gives away (its UIDS-GIDS.md). */
const BLOCK_COUNT = 7;
const SANDBOXES_PER_BLOCK = 2 ** (32 - AUTOMATIC_PREFIX_LENGTH);
const FIRST_HOST_ID = 0x70000000;

/** What an instance has to itself on the host. */
interface Block {
  readonly subnet: Subnet;
  readonly firstHostId: number;
  readonly claim: Claim;
}

/** The network of one server instance: rules, addresses, name resolution and prepared namespaces. */
export class SandboxNetwork implements AsyncDisposable {
  readonly #pool: NamespacePool;
  readonly #block: Block;
  readonly #table: string;
  /** The text of `/etc/resolv.conf` inside. */
  readonly resolvConf: string;
  /** Whether names resolve inside: false when the host has name servers on its loopback interface only. */
  readonly hasNameServer: boolean;

  private constructor(block: Block, table: string, pool: NamespacePool, resolvConf: string, hasNameServer: boolean) {
    this.#block = block;
    this.#table = table;
    this.#pool = pool;
    this.resolvConf = resolvConf;
    this.hasNameServer = hasNameServer;
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
      const gateway = formatAddress(block.subnet.base + 1);
      const rules = ruleset({
        table,
        interfacePrefix,
        commonPrefix: COMMON_PREFIX,
        subnet: formatSubnet(block.subnet),
        gateway,
        resolvers,
        blockedNetworks: [
          ...FORBIDDEN_NETWORKS,
          ...(options.isPrivateAllowed === true ? [] : PRIVATE_NETWORKS),
          ...(options.blockedNetworks ?? []).map((text) => formatSubnet(parseSubnet(text))),
        ],
      });
      await step("network.rules", () => runTool("nft", ["-f", "-"], { input: rules }));
      await enableForwarding();
      const pool = new NamespacePool({
        size: options.preparedCount ?? 4,
        slotCount: Math.min(2 ** (32 - block.subnet.prefixLength) - 3, SANDBOXES_PER_BLOCK),
        firstHostId: block.firstHostId,
        firstAddress: block.subnet.base + 2,
        gateway,
        interfacePrefix,
      });
      const lines = [`nameserver ${gateway}`, ...(await readSearchLines())];
      return new SandboxNetwork(block, table, pool, `${lines.join("\n")}\n`, resolvers.length > 0);
    } catch (error) {
      await block.claim[Symbol.asyncDispose]();
      throw error;
    }
  }

  async take(signal?: AbortSignal): Promise<PreparedNamespaces> {
    return this.#pool.take(signal);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#pool.close();
    await runTool("nft", ["-f", "-"], { input: `table inet ${this.#table}\ndelete table inet ${this.#table}\n` });
    await this.#block.claim[Symbol.asyncDispose]();
  }
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
    const claim = await tryClaim(`block-${index}`);
    if (claim === null) continue;
    const firstHostId = FIRST_HOST_ID + index * SANDBOXES_PER_BLOCK * IDS_PER_SANDBOX;
    return { subnet: subnet === undefined ? automatic : parseSubnet(subnet), firstHostId, claim };
  }
  throw new CaissonError(
    "INTERNAL_ERROR",
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
