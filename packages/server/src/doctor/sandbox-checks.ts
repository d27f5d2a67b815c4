import { access, stat } from "node:fs/promises";
import { hasCrashed, runTool } from "@caisson/linux";
import { agentSources, readResolvers, readRuntimeVersion, tryOciRuntime, tryWarmStart } from "@caisson/runtime";
import { readAptConfiguration } from "../base-image/apt-sources.ts";
import { RELEASE } from "../base-image/debian-13-recipe.ts";
import { readCertificates } from "../base-image/host-inputs.ts";
import { type Check, missing, ok, warning } from "./check.ts";

/** The server takes the first of these that is installed; whether that one can start a sandbox, only a try tells. */
export async function checkOciRuntime(candidates: readonly string[] = ["crun", "runc"]): Promise<Check> {
  for (const path of candidates) {
    const version = await readRuntimeVersion(path);
    if (version === null) continue;
    try {
      await tryOciRuntime(path);
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      const remedy = "The server cannot start sandboxes with it: mend what it reports, or install another version";
      return missing("OCI runtime", `${version} does not work: ${reason}`, remedy);
    }
    if (version.startsWith("crun")) return ok("OCI runtime", version);
    return warning("OCI runtime", version, "It works, but crun starts sandboxes faster: apt-get install crun");
  }
  return missing("OCI runtime", `neither ${candidates.join(" nor ")}`, "Install one: apt-get install crun");
}

/** With the OCI runtime that the server takes. A sandbox that cannot start warm starts cold. `agentPath`: where the bundled agent is. */
export async function checkWarmStart(
  candidates: readonly string[] = ["crun", "runc"],
  agentPath?: string,
): Promise<Check> {
  for (const path of candidates) {
    if ((await readRuntimeVersion(path)) === null) continue;
    try {
      const bundle = agentPath ?? agentSources().agentPath;
      const isBundled = await access(bundle).then(
        () => true,
        () => false,
      );
      // In a fresh clone it is not there yet.
      if (!isBundled) {
        const remedy = "`caisson up` bundles it: run `caisson doctor` again afterwards";
        return warning("warm start", "not tried: the program that runs inside sandboxes is not bundled yet", remedy);
      }
      await tryWarmStart(path);
      return ok("warm start", `works with ${path}`);
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      const remedy =
        "Sandboxes start from the beginning, which takes some 70 ms longer: mend what it reports, or set warm_sandboxes = 0";
      return warning("warm start", reason, remedy);
    }
  }
  return warning("warm start", "not tried", "It needs an OCI runtime: apt-get install crun");
}

export async function checkNameServers(): Promise<Check> {
  return judgeNameServers(await readResolvers());
}

export function judgeNameServers(servers: readonly string[]): Check {
  if (servers.length > 0) return ok("name servers", servers.join(", "));
  return warning(
    "name servers",
    "none outside the loopback interface",
    "Names do not resolve in sandboxes: set network.name_servers to servers that they can reach",
  );
}

/** Other firewalls decide after Caisson's rules: what they drop stays dropped. */
export async function checkFirewall(): Promise<Check> {
  try {
    return judgeFirewall(await runTool("nft", ["--json", "list", "chains"]));
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    if (!hasCrashed(error))
      return warning("firewall", `cannot be read: ${reason}`, "See the check of the packet filter");
    const remedy =
      "A newer nft has probably made rules that this one cannot read: install it, or remove them with what made them";
    return missing("firewall", reason, remedy);
  }
}

export function judgeFirewall(json: string): Check {
  const { nftables } = JSON.parse(json) as { readonly nftables: readonly { readonly chain?: FilterChain }[] };
  const dropping = nftables.flatMap(({ chain }) =>
    chain !== undefined && chain.hook === "forward" && chain.policy === "drop"
      ? [`${chain.family} ${chain.table} ${chain.name}`]
      : [],
  );
  if (dropping.length === 0) return ok("firewall", "forwards packets of sandboxes");
  return warning(
    "firewall",
    `drops forwarded packets (${dropping.join(", ")})`,
    'Sandboxes have no network until that firewall accepts interfaces "csn*", for example: iptables -I FORWARD -i csn+ -j ACCEPT; iptables -I FORWARD -o csn+ -j ACCEPT',
  );
}

interface FilterChain {
  readonly family: string;
  readonly table: string;
  readonly name: string;
  readonly hook?: string;
  readonly policy?: string;
}

export async function checkImageSources(): Promise<readonly Check[]> {
  return [await checkMirror(), await checkKeyring(), await checkCertificates()];
}

async function checkMirror(): Promise<Check> {
  try {
    const { sources } = await readAptConfiguration(RELEASE);
    return ok("Debian mirror", [...new Set(sources.map(({ uri }) => uri))].join(", "));
  } catch (error) {
    return missing(
      "Debian mirror",
      error instanceof Error ? error.message : String(error),
      "Add one to /etc/apt/sources.list.d",
    );
  }
}

async function checkKeyring(): Promise<Check> {
  const path = `/usr/share/keyrings/debian-archive-${RELEASE}-stable.gpg`;
  return stat(path).then(
    () => ok("Debian keys", path),
    () =>
      missing(
        "Debian keys",
        `no ${path}`,
        "Install them: apt-get install debian-archive-keyring (2023.3+deb12u2 or later)",
      ),
  );
}

async function checkCertificates(): Promise<Check> {
  const files = await readCertificates("/usr/local/share/ca-certificates");
  const names = files.map(({ name }) => name).join(", ");
  return ok("local certificates", files.length === 0 ? "none" : `${names}: sandboxes trust them too`);
}
