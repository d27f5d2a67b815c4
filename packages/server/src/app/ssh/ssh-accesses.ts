import { CaissonError, randomCharacters } from "@caisson/model";
import { hashToken } from "../access/token-hash.ts";
import type { LiveSandbox } from "../sandboxes/live-sandboxes.ts";

/** 131 bits. */
const NAME_CHARACTERS = 26;
const ACCESSES_PER_SANDBOX_MAX = 64;

/** Where clients reach the SSH server, and its key. */
export interface SshEndpoint {
  readonly hostname: string;
  readonly port: number;
  /** Type and key, as in `known_hosts`. */
  readonly hostKey: string;
  readonly fingerprint: string;
}

/** A user name that lets in whoever knows it. */
export interface SshAccess {
  readonly hash: string;
  readonly sandbox: LiveSandbox;
  /** Of the token that made it: it ends with that. */
  readonly tokenId: string;
  /** Withdraws it from what ends it. */
  forget: () => void;
}

interface Connection {
  /** Null: by a key. */
  readonly access: SshAccess | null;
  readonly end: () => void;
}

interface Entry {
  readonly accesses: Set<SshAccess>;
  readonly connections: Set<Connection>;
}

/** Who may log in to which sandbox by a user name alone, and who is logged in. All of it ends with the sandboxes, so nothing is stored; names are kept as hashes. */
export class SshAccesses {
  readonly #connectionsMax: number;
  readonly #byHash = new Map<string, SshAccess>();
  readonly #bySandbox = new Map<string, Entry>();
  #endpoint: SshEndpoint | null = null;

  constructor(connectionsPerSandbox: number) {
    this.#connectionsMax = connectionsPerSandbox;
  }

  setEndpoint(endpoint: SshEndpoint): void {
    this.#endpoint = endpoint;
  }

  /** Null: SSH is switched off. */
  get endpoint(): SshEndpoint | null {
    return this.#endpoint;
  }

  /** Throws `NOT_SUPPORTED` where SSH is switched off. */
  requireEndpoint(): SshEndpoint {
    if (this.#endpoint !== null) return this.#endpoint;
    throw new CaissonError(
      "NOT_SUPPORTED",
      "SSH is switched off on this server: its administrator has set ssh.enabled = false",
    );
  }

  /** Throws `CONCURRENCY_LIMIT_EXCEEDED`. */
  requireRoom({ record }: LiveSandbox): void {
    if ((this.#bySandbox.get(record.id)?.accesses.size ?? 0) < ACCESSES_PER_SANDBOX_MAX) return;
    throw new CaissonError(
      "CONCURRENCY_LIMIT_EXCEEDED",
      `Sandbox ${record.id} has ${ACCESSES_PER_SANDBOX_MAX} SSH user names, which is the most: end them with "caisson ssh-revoke"`,
    );
  }

  newName(): string {
    return randomCharacters(NAME_CHARACTERS);
  }

  add(name: string, sandbox: LiveSandbox, tokenId: string): SshAccess {
    const access: SshAccess = { hash: hashName(name), sandbox, tokenId, forget: () => {} };
    this.#byHash.set(access.hash, access);
    this.#entry(sandbox).accesses.add(access);
    return access;
  }

  /** Null when there is none, or its sandbox is ending. */
  find(name: string): SshAccess | null {
    const access = this.#byHash.get(hashName(name));
    return access === undefined || access.sandbox.ending !== null ? null : access;
  }

  /** Ends a user name and every connection by it. */
  remove(access: SshAccess): void {
    access.forget();
    this.#byHash.delete(access.hash);
    const entry = this.#bySandbox.get(access.sandbox.record.id);
    entry?.accesses.delete(access);
    for (const connection of [...(entry?.connections ?? [])]) if (connection.access === access) connection.end();
  }

  /** Ends all user names of a sandbox and every connection by them. Returns how many there were. */
  removeAll({ record }: LiveSandbox): number {
    const accesses = [...(this.#bySandbox.get(record.id)?.accesses ?? [])];
    for (const access of accesses) this.remove(access);
    return accesses.length;
  }

  /**
   * Counts a connection, which `end` ends with the sandbox or the user name. Returns what forgets it; null where there are too many, and where one of
   * them has ended meanwhile.
   */
  open(sandbox: LiveSandbox, access: SshAccess | null, end: () => void): (() => void) | null {
    if (sandbox.ending !== null || (access !== null && this.#byHash.get(access.hash) !== access)) return null;
    const { connections } = this.#entry(sandbox);
    if (connections.size >= this.#connectionsMax) return null;
    const connection = { access, end };
    connections.add(connection);
    return () => {
      connections.delete(connection);
    };
  }

  #entry(sandbox: LiveSandbox): Entry {
    const { id } = sandbox.record;
    const known = this.#bySandbox.get(id);
    if (known !== undefined) return known;
    const entry: Entry = { accesses: new Set(), connections: new Set() };
    this.#bySandbox.set(id, entry);
    const forget = (): void => this.#forget(id, entry);
    void sandbox.exited.then(forget);
    void sandbox.ended.then(forget);
    return entry;
  }

  #forget(id: string, entry: Entry): void {
    for (const access of [...entry.accesses]) this.remove(access);
    for (const { end } of [...entry.connections]) end();
    if (this.#bySandbox.get(id) === entry) this.#bySandbox.delete(id);
  }
}

function hashName(name: string): string {
  return Buffer.from(hashToken(name)).toString("base64");
}
