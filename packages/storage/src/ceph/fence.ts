import { step } from "@caisson/linux";
import { CaissonError } from "@caisson/model";
import { type CephConnection, ownerOf } from "./ceph-connection.ts";
import type { RbdClient } from "./rbd-client.ts";
import { GONE_SECONDS, type Reaper } from "./reaper.ts";
import { isThere, type Register, RowChangedError } from "./register.ts";

/** How long the cluster refuses a client of another host. A process that was frozen for longer could write again, so it is a month. */
const FENCE_SECONDS = 30 * 24 * 3600;

/** Shuts another opening of the pool out, and settles what it was at. */
export async function fence(
  instance: string,
  connection: CephConnection,
  register: Register,
  reaper: Reaper,
): Promise<void> {
  await step("storage.fence.mark", async () => {
    const before = await register.find("fenced", instance);
    if (before === null) await register.replace("fenced", instance, null, { atMs: Date.now() });
  });
  await shutOut(instance, FENCE_SECONDS, connection, register);
  const owner = ownerOf(instance);
  // A later opening of the same host settles it itself.
  const others = [...(await register.list("instance"))].filter(([other]) => other !== instance);
  if (!others.some(([, { row }]) => row.owner === owner)) await settleRows(owner, register, reaper);
  // Last, because it is for these rows that it is fenced again where a crash came before.
  await forget(instance, register);
}

/** What earlier openings of this host have left. */
export async function settleOwn(connection: CephConnection, register: Register, reaper: Reaper): Promise<void> {
  const instances = (await register.list("instance")).keys();
  // One whose own row is gone may have left others.
  const writers = [...(await register.list("writer")).values()].map(({ row }) => row.instance);
  for (const instance of new Set([...instances, ...writers])) {
    if (ownerOf(instance) !== connection.owner || instance === connection.instance) continue;
    await shutOut(instance, GONE_SECONDS, connection, register);
    await forget(instance, register);
  }
  for (const [instance, found] of await register.list("fenced"))
    if (ownerOf(instance) === connection.owner) await register.replace("fenced", instance, found, null);
  await settleRows(connection.owner, register, reaper);
  await reaper.reapTrash();
}

/** From its end on, nothing that the opening's processes send is done. */
async function shutOut(
  instance: string,
  seconds: number,
  connection: CephConnection,
  register: Register,
): Promise<void> {
  const client = await connection.client();
  const instances = await register.list("instance");
  const living = new Set([...instances].filter(([other]) => other !== instance).map(([, { row }]) => row.address));
  const writers = [...(await register.list("writer")).values()].filter(({ row }) => row.instance === instance);
  const own = instances.get(instance)?.row.address ?? null;
  const addresses = new Set(own === null ? [] : [own]);
  for (const { row } of writers) {
    // Not all that have it open: a host that lives may read a snapshot of the same block image. A writer that has not written its address down yet does so, and then sees the fence.
    const clients = [...row.addresses, ...(await client.lockers(row.image))];
    for (const address of clients) if (!living.has(address)) addresses.add(address);
  }
  await step("storage.fence.blocklist", () => refuse(client, [...addresses], seconds));
  for (const { row } of writers) await step("storage.fence.locks", () => client.breakLocks(row.image, [...addresses]));
}

/** Nothing is its own any more. */
async function forget(instance: string, register: Register): Promise<void> {
  const own = await register.find("instance", instance);
  if (own !== null) await step("storage.fence.leave", () => register.replace("instance", instance, own, null));
  for (const [id, found] of await register.list("writer"))
    if (found.row.instance === instance)
      await step("storage.fence.forget", () => register.replace("writer", id, found, null));
}

async function refuse(client: RbdClient, addresses: readonly string[], seconds: number): Promise<void> {
  if (addresses.length > 0) await client.blocklist(addresses, seconds);
}

/** Removes what the host was making or removing, and its ephemeral images. What it grew is grown when it is used next. */
async function settleRows(owner: string, register: Register, reaper: Reaper): Promise<void> {
  for (const [id, found] of await register.list("image")) {
    if (found.row.owner !== owner || !(found.row.isEphemeral || !isThere(found.row))) continue;
    try {
      await reaper.remove(id, found, owner);
    } catch (error) {
      // Another host settles it at the same time, or has begun to write to it before its removal began.
      const isTheirs = error instanceof CaissonError && error.code === "VOLUME_IN_USE";
      if (!isTheirs && !(error instanceof RowChangedError)) throw error;
    }
  }
}
