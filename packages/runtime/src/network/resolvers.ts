import { readFile } from "node:fs/promises";
import { hasErrorCode } from "@caisson/linux";

/** systemd-resolved writes the real servers here when resolv.conf only names its own stub on the loopback interface. */
const RESOLVED_PATH = "/run/systemd/resolve/resolv.conf";

/**
 * The host's IPv4 name servers that a sandbox can be led to. Servers on the host's loopback interface are not among them, because they
 * answer to the host only; empty means that the host has no other.
 */
export async function readResolvers(
  paths: readonly string[] = ["/etc/resolv.conf", RESOLVED_PATH],
): Promise<readonly string[]> {
  for (const path of paths) {
    const servers = reachableServers(await readText(path));
    if (servers.length > 0) return servers;
  }
  return [];
}

/** Search domains and options of the host, which names inside a company often need. */
export async function readSearchLines(path = "/etc/resolv.conf"): Promise<readonly string[]> {
  return (await readText(path)).split("\n").filter((line) => /^(search|domain|options)\s/.test(line));
}

/**
 * The text of a sandbox's resolv.conf. With several servers, one that is silent costs a lookup a second instead of the usual five; what the host
 * says in its own options counts more.
 */
export function formatResolvConf(servers: readonly string[], searchLines: readonly string[]): string {
  const options = servers.length > 1 ? ["options timeout:1 attempts:5"] : [];
  const lines = [...servers.map((address) => `nameserver ${address}`), ...options, ...searchLines];
  return lines.map((line) => `${line}\n`).join("");
}

function reachableServers(resolvConf: string): readonly string[] {
  const servers = [...resolvConf.matchAll(/^nameserver\s+(\d+\.\d+\.\d+\.\d+)\s*$/gm)].map(
    ([, address = ""]) => address,
  );
  return servers.filter((address) => !address.startsWith("127.") && address !== "0.0.0.0");
}

async function readText(path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    if (hasErrorCode(error, "ENOENT")) return "";
    throw error;
  }
}
