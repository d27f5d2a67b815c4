import { randomBytes } from "node:crypto";
import { mkdir, readdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { findMount, hasErrorCode, openFile, renameFile, syncDirectory, syncFile, unmount } from "@caisson/linux";
import { CaissonError } from "@caisson/model";
import { poolName, RbdClient, type RbdClientOptions } from "./rbd-client.ts";
import { Register } from "./register.ts";

interface Identity {
  /** Of this host in the pool's register. */
  readonly owner: string;
  /** Of the cluster. */
  readonly fsid: string;
  readonly pool: string;
}

export interface CephConnectionOptions extends RbdClientOptions {
  readonly directory: string;
}

/**
 * This opening of the pool: its connection to the cluster, which is made again when it broke, and its row in the register, by which other hosts can shut it
 * out. A file in the directory remembers which cluster it is, so that another one under the same settings is not taken for it.
 */
export class CephConnection {
  readonly owner: string;
  readonly instance: string;
  readonly fsid: string;
  /** Where images are served as files. */
  readonly servedDirectory: string;
  readonly #options: CephConnectionOptions;
  #client: RbdClient | null;
  #opening: Promise<RbdClient> | null = null;
  #isClosed = false;

  private constructor(options: CephConnectionOptions, identity: Identity, client: RbdClient, servedDirectory: string) {
    this.#options = options;
    this.owner = identity.owner;
    this.instance = `${identity.owner}.${randomBytes(6).toString("hex")}`;
    this.fsid = identity.fsid;
    this.servedDirectory = servedDirectory;
    this.#client = client;
  }

  static async open(options: CephConnectionOptions): Promise<CephConnection> {
    const servedDirectory = join(options.directory, "served");
    await clearServed(servedDirectory);
    const client = await RbdClient.open(options);
    try {
      const connection = new CephConnection(options, await identify(options, client.fsid), client, servedDirectory);
      await connection.#enter(client);
      return connection;
    } catch (error) {
      await client.close();
      throw error;
    }
  }

  /** The connection, made again where it broke. */
  async client(): Promise<RbdClient> {
    if (this.#client?.isOpen === true) return this.#client;
    this.#opening ??= this.#reopen().finally(() => (this.#opening = null));
    return this.#opening;
  }

  /** The next call opens another one. */
  drop(): void {
    const client = this.#client;
    this.#client = null;
    void client?.close();
  }

  async requireNotFenced(action: string): Promise<void> {
    await this.#requireNotFenced(await this.client(), action);
  }

  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    await this.#opening?.catch(() => undefined);
    const client = this.#client;
    if (client?.isOpen === true) {
      // Where that fails, the next opening finds it and does what there is to do.
      await this.#leave(client).catch(() => undefined);
    }
    await client?.close();
    await rm(this.servedDirectory, { recursive: true, force: true });
  }

  async #reopen(): Promise<RbdClient> {
    if (this.#isClosed) throw new CaissonError("SHUTTING_DOWN", "Cannot use the Ceph pool: it is closed");
    await this.#client?.close();
    const client = await RbdClient.open(this.#options);
    try {
      requireSameCluster(this.#options, this.fsid, client.fsid);
      await this.#enter(client);
    } catch (error) {
      await client.close();
      throw error;
    }
    this.#client = client;
    return client;
  }

  /** Writes down that this opening is there, unless it was fenced. */
  async #enter(client: RbdClient): Promise<void> {
    const register = new Register(() => Promise.resolve(client));
    await this.#requireNotFenced(client, "use it");
    const before = await register.find("instance", this.instance);
    await register.replace("instance", this.instance, before, { owner: this.owner, address: client.address });
    await this.#requireNotFenced(client, "use it");
  }

  async #leave(client: RbdClient): Promise<void> {
    const register = new Register(() => Promise.resolve(client));
    for (const [id, found] of await register.list("writer"))
      if (found.row.instance === this.instance) await register.replace("writer", id, found, null);
    await register.replace("instance", this.instance, await register.find("instance", this.instance), null);
  }

  async #requireNotFenced(client: RbdClient, action: string): Promise<void> {
    if ((await client.row(`fenced/${this.instance}`)) === null) return;
    const message = `Cannot ${action}: the Ceph pool ${poolName(this.#options)} has shut this server out, because another node has taken over what it had. Start the server again`;
    throw new CaissonError("DISK_UNAVAILABLE", message);
  }
}

/** The host of an opening. */
export function ownerOf(instance: string): string {
  return instance.slice(0, instance.lastIndexOf("."));
}

/** Reads which host and cluster the directory is of, or makes it this cluster's. */
async function identify(options: CephConnectionOptions, fsid: string): Promise<Identity> {
  const path = join(options.directory, "ceph.json");
  const pool = poolName(options);
  try {
    const identity = JSON.parse(await readFile(path, "utf8")) as Identity;
    requireSameCluster(options, identity.fsid, fsid);
    if (identity.pool === pool) return identity;
    const message = `Cannot use the Ceph pool ${pool}: ${path} says that this server's images are in the pool ${identity.pool}. Name that one, or move the file away if none is needed`;
    throw new CaissonError("DISK_UNAVAILABLE", message);
  } catch (error) {
    if (!hasErrorCode(error, "ENOENT")) throw error;
  }
  const identity: Identity = { owner: `host-${randomBytes(8).toString("hex")}`, fsid, pool };
  await using file = await openFile(`${path}.new`, "w");
  await file.writeFile(JSON.stringify(identity));
  await syncFile(file, path);
  await renameFile(`${path}.new`, path);
  await syncDirectory(options.directory);
  return identity;
}

function requireSameCluster(options: CephConnectionOptions, expected: string, found: string): void {
  if (expected === found) return;
  const message = `Cannot use the Ceph pool ${poolName(options)}: ${options.conf} leads to the cluster ${found}, and this server's images are in the cluster ${expected}. Name the ceph.conf of that one, or move ${join(options.directory, "ceph.json")} away if none of them is needed`;
  throw new CaissonError("DISK_UNAVAILABLE", message);
}

/** The files of an earlier run, whose processes are gone. */
async function clearServed(directory: string): Promise<void> {
  await mkdir(directory, { recursive: true, mode: 0o700 });
  for (const name of await readdir(directory)) {
    const path = join(directory, name);
    if ((await findMount(path)) !== null) await unmount(path);
    await rm(path, { force: true });
  }
}
