/** A file that is the sandbox's own, whatever its root has in its place. */
export interface OwnFile {
  /** In the agent's directory. */
  readonly name: string;
  /** Inside. */
  readonly path: string;
  readonly content: string;
}

export const OWN_FILE_PATHS: readonly string[] = ["/etc/hostname", "/etc/hosts", "/etc/resolv.conf"];

/** Files that hold the sandbox's own names, which its root may change; the same for a root that lasts and for one that does not. */
export function ownFiles(hostname: string, address: string, resolvConf: string): readonly OwnFile[] {
  const hosts = [
    "127.0.0.1 localhost",
    "::1 localhost ip6-localhost ip6-loopback",
    `${address} ${hostNames(hostname)}`,
  ];
  const contents = [`${hostname}\n`, `${hosts.join("\n")}\n`, resolvConf];
  return OWN_FILE_PATHS.map((path, index) => ({
    name: path.slice("/etc/".length),
    path,
    content: contents[index] ?? "",
  }));
}

/** A name with dots is found by its first part too, as it is where the local domain is searched. */
function hostNames(hostname: string): string {
  const [first = hostname] = hostname.split(".");
  return first === hostname ? hostname : `${hostname} ${first}`;
}
