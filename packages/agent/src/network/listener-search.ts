import { type ListeningAddress, parseTcpAddress } from "./tcp-address.ts";

const LISTENING = "0A";
const UNIX_ACCEPTS_CONNECTIONS = 0x10000;

/** The tables of TCP sockets, each with the file and the line that count the sockets in use (proc_pid_net(5)). */
const TCP_TABLES = [
  { table: "tcp", counts: "sockstat", inUse: /^TCP: inuse (\d+)/m },
  { table: "tcp6", counts: "sockstat6", inUse: /^TCP6: inuse (\d+)/m },
] as const;

interface Listener {
  readonly inode: string;
  readonly address: ListeningAddress;
}

/**
 * Finds what a process listens on, by looking at its descriptors and at the sockets of its network namespace. To read a table of TCP
 * sockets takes the kernel about 5 ms, even an empty one, because it walks a hash table of the whole machine (measured). So one is read
 * only when the process has TCP sockets and they, or the counts of sockets in use, have changed since; a look takes 0.3 ms otherwise.
 */
export class ListenerSearch {
  readonly #process: string;
  #listener: Listener | undefined;
  /** What the TCP tables were last read for. */
  #lastSignature = "";

  constructor(osPid: number) {
    this.#process = `/proc/${osPid}`;
  }

  /** The address that the process listens on; of several, that with the lowest descriptor, which is the one opened first. */
  find(): ListeningAddress | undefined {
    const inodes = this.#socketInodes();
    if (this.#listener === undefined || !inodes.includes(this.#listener.inode)) this.#listener = this.#search(inodes);
    return this.#listener?.address;
  }

  #search(inodes: readonly string[]): Listener | undefined {
    if (inodes.length === 0) return undefined;
    const addresses = new Map<string, ListeningAddress>();
    const unix = new Set<string>();
    for (const [, , , flags = "", , , inode = "", path = ""] of this.#rows("unix")) {
      unix.add(inode);
      const isListening = (Number.parseInt(flags, 16) & UNIX_ACCEPTS_CONNECTIONS) !== 0;
      if (isListening && path.startsWith("/")) addresses.set(inode, { transport: "unix", path });
    }
    for (const [inode, address] of this.#tcpListeners(inodes.filter((inode) => !unix.has(inode))))
      addresses.set(inode, address);
    for (const inode of inodes) {
      const address = addresses.get(inode);
      if (address !== undefined) return { inode, address };
    }
    return undefined;
  }

  /** Listening TCP sockets by inode; nothing when nothing can have changed since the last time. */
  #tcpListeners(inodes: readonly string[]): ReadonlyMap<string, ListeningAddress> {
    const listeners = new Map<string, ListeningAddress>();
    if (inodes.length === 0) return listeners;
    const inUse = TCP_TABLES.map(({ counts, inUse }) => Number(inUse.exec(this.#text(counts))?.[1] ?? 0));
    const signature = [...inUse, ...inodes].join();
    if (signature === this.#lastSignature) return listeners;
    this.#lastSignature = signature;
    for (const [index, { table }] of TCP_TABLES.entries()) {
      if (inUse[index] === 0) continue;
      for (const [, local = "", , state, , , , , , inode = ""] of this.#rows(table)) {
        if (state === LISTENING) listeners.set(inode, parseTcpAddress(local));
      }
    }
    return listeners;
  }

  /** The sockets among the descriptors, in the descriptors' order. */
  #socketInodes(): string[] {
    const descriptors = orIfGone(() => [...Deno.readDirSync(`${this.#process}/fd`)], []);
    const numbers = descriptors.map(({ name }) => Number(name)).sort((a, b) => a - b);
    const targets = numbers.map((number) => orIfGone(() => Deno.readLinkSync(`${this.#process}/fd/${number}`), ""));
    return targets.flatMap((target) => /^socket:\[(\d+)\]$/.exec(target)?.[1] ?? []);
  }

  #rows(table: string): string[][] {
    const lines = this.#text(table).split("\n").slice(1);
    return lines.map((line) => line.trim().split(/\s+/));
  }

  /** A kernel without IPv6 has fewer files. */
  #text(file: string): string {
    return orIfGone(() => Deno.readTextFileSync(`${this.#process}/net/${file}`), "");
  }
}

/**
 * The process may end, or close a descriptor, while it is looked at. In the middle of its end the kernel refuses to show its descriptors, since
 * the memory by whose rights it decides is gone already.
 */
function orIfGone<T>(look: () => T, fallback: T): T {
  try {
    return look();
  } catch (error) {
    const isGone =
      error instanceof Deno.errors.NotFound ||
      error instanceof Deno.errors.PermissionDenied ||
      (error instanceof Error && /os error 3\)/.test(error.message));
    if (isGone) return fallback;
    throw error;
  }
}
