import { type ListeningAddress, parseTcpAddress } from "./tcp-address.ts";

const LISTENING = "0A";
const UNIX_ACCEPTS_CONNECTIONS = 0x10000;

/**
 * The address that a process listens on, or undefined. Of several, the one with the lowest descriptor, which is the one opened first.
 * The kernel tells sockets of a network namespace by inode (proc_net(5)), and descriptors of a process by the same number.
 */
export function findListeningAddress(osPid: number): ListeningAddress | undefined {
  try {
    const addresses = listeningAddresses(`/proc/${osPid}/net`);
    return addresses.size === 0 ? undefined : firstOwned(osPid, addresses);
  } catch (error) {
    // The process has ended, or ends while it is looked at.
    if (error instanceof Deno.errors.NotFound || (error instanceof Error && error.message.includes("os error 3")))
      return undefined;
    throw error;
  }
}

function firstOwned(osPid: number, addresses: ReadonlyMap<string, ListeningAddress>): ListeningAddress | undefined {
  const directory = `/proc/${osPid}/fd`;
  const descriptors = [...Deno.readDirSync(directory)].map(({ name }) => Number(name)).sort((a, b) => a - b);
  for (const descriptor of descriptors) {
    const inode = /^socket:\[(\d+)\]$/.exec(readLinkIfPresent(`${directory}/${descriptor}`))?.[1];
    const address = inode === undefined ? undefined : addresses.get(inode);
    if (address !== undefined) return address;
  }
  return undefined;
}

/** A descriptor may be closed between listing and looking. */
function readLinkIfPresent(path: string): string {
  try {
    return Deno.readLinkSync(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return "";
    throw error;
  }
}

/** All listening sockets of a network namespace, by inode. */
function listeningAddresses(directory: string): Map<string, ListeningAddress> {
  const addresses = new Map<string, ListeningAddress>();
  for (const table of ["tcp", "tcp6"]) {
    for (const [, local = "", , state, , , , , , inode = ""] of rows(`${directory}/${table}`)) {
      if (state === LISTENING) addresses.set(inode, parseTcpAddress(local));
    }
  }
  for (const [, , , flags = "", , , inode = "", path = ""] of rows(`${directory}/unix`)) {
    if ((Number.parseInt(flags, 16) & UNIX_ACCEPTS_CONNECTIONS) !== 0 && path.startsWith("/")) {
      addresses.set(inode, { transport: "unix", path });
    }
  }
  return addresses;
}

/** The columns of a table; a kernel without IPv6 has no `tcp6`. */
function rows(path: string): string[][] {
  let text: string;
  try {
    text = Deno.readTextFileSync(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return [];
    throw error;
  }
  return text
    .split("\n")
    .slice(1)
    .map((line) => line.trim().split(/\s+/));
}
