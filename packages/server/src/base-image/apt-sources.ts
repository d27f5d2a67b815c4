import { readFile } from "node:fs/promises";
import { runTool } from "@caisson/linux";
import { CaissonError } from "@caisson/model";

/** One line of an apt source: where, which suite of it, which components. */
export interface AptSource {
  readonly uri: string;
  readonly suite: string;
  readonly components: readonly string[];
}

/** What the image takes over from the host's apt: its mirrors, and the options without which those mirrors may not work. */
export interface AptConfiguration {
  readonly sources: readonly AptSource[];
  /** Lines of apt.conf(5). */
  readonly options: readonly string[];
}

/** Options that belong to a mirror or to the way there, not to the host. Everything else stays on the host. */
const MIRROR_OPTIONS = [
  "Acquire::http::Proxy",
  "Acquire::https::Proxy",
  "Acquire::Check-Valid-Until",
  "Acquire::Check-Date",
  "Acquire::ForceIPv4",
];

const SUITES_OF_RELEASE = ["", "-updates", "-security"] as const;

/** Reads the host's apt configuration and turns its Debian mirrors into sources of another release, for example `trixie`. */
export async function readAptConfiguration(release: string): Promise<AptConfiguration> {
  const [targets, dump, osRelease] = await Promise.all([
    runTool("apt-get", [
      "indextargets",
      "--no-release-info",
      "--format",
      "$(SITE) $(RELEASE) $(COMPONENT)",
      "Created-By: Packages",
    ]),
    runTool("apt-config", ["dump"]),
    readFile("/etc/os-release", "utf8"),
  ]);
  const hostRelease = /^VERSION_CODENAME="?([a-z]+)"?$/m.exec(osRelease)?.[1] ?? "";
  return { sources: sourcesForRelease(targets, hostRelease, release), options: mirrorOptions(dump) };
}

/**
 * Takes the mirrors of the host's own release (lines `<site> <suite> <component>` of apt-get indextargets) and names `release` in them.
 * Suites such as backports, and mirrors that carry no Debian release, are left out. Throws when no mirror remains.
 */
export function sourcesForRelease(targets: string, hostRelease: string, release: string): readonly AptSource[] {
  const names = [hostRelease, release, "stable", "oldstable"].filter((name) => name !== "");
  const sources = new Map<string, AptSource>();
  for (const line of targets.split("\n")) {
    const [uri, suite, component] = line.trim().split(" ");
    if (uri === undefined || suite === undefined || component !== "main") continue;
    const suffix = SUITES_OF_RELEASE.find((candidate) => names.some((name) => suite === `${name}${candidate}`));
    if (suffix === undefined || !/^https?:\/\//.test(uri)) continue;
    if (new URL(uri).username !== "") {
      throw new CaissonError(
        "INTERNAL_ERROR",
        `Cannot use the apt mirror ${new URL(uri).host} for the built-in image: its address carries a password, which sandboxes would see. Move it to /etc/apt/auth.conf.d`,
      );
    }
    const source = { uri, suite: `${release}${suffix}`, components: ["main"] };
    sources.set(`${source.uri} ${source.suite}`, source);
  }
  const list = [...sources.values()];
  if (list.some((source) => source.suite === release)) return list;
  throw new CaissonError(
    "INTERNAL_ERROR",
    `Cannot build the built-in image: no http or https mirror of Debian "${hostRelease || release}" is configured in /etc/apt. Add one (sources.list(5)) and try again`,
  );
}

/** The lines of `apt-config dump` that concern mirrors. */
export function mirrorOptions(dump: string): readonly string[] {
  return dump.split("\n").filter((line) => {
    const [name = "", value = ""] = line.split(" ");
    // A proxy on the host's own loopback is out of reach for a sandbox.
    const isLocal = /"https?:\/\/(localhost|127\.|\[::1\])/.test(value);
    return MIRROR_OPTIONS.some((option) => name.toLowerCase() === option.toLowerCase()) && value !== '"";' && !isLocal;
  });
}

/** Prints the sources in the deb822 form that apt writes itself (`/etc/apt/sources.list.d/debian.sources`). */
export function formatSources(sources: readonly AptSource[]): string {
  const keyring = "/usr/share/keyrings/debian-archive-keyring.gpg";
  return sources
    .map(({ uri, suite, components }) =>
      [
        `Types: deb`,
        `URIs: ${uri}`,
        `Suites: ${suite}`,
        `Components: ${components.join(" ")}`,
        `Signed-By: ${keyring}`,
        "",
      ].join("\n"),
    )
    .join("\n");
}
