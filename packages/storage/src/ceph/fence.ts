import { step } from "@caisson/linux";
import type { CephConnection } from "./ceph-connection.ts";
import type { RbdClient } from "./rbd-client.ts";
import { GONE_SECONDS, type Reaper } from "./reaper.ts";
import { isThere, type Register } from "./register.ts";

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
  const owner = (await register.find("instance", instance))?.row.owner ?? null;
  await shutOut(instance, FENCE_SECONDS, connection, register);
  if (owner === null) return;
  // A later opening of the same host settles it itself.
  const others = [...(await register.list("instance")).values()];
  if (!others.some(({ row }) => row.owner === owner)) await settleRows(owner, connection.owner, register, reaper);
}

/** What earlier openings of this host have left. */
export async function settleOwn(connection: CephConnection, register: Register, reaper: Reaper): Promise<void> {
  for (const [instance, { row }] of await register.list("instance"))
    if (row.owner === connection.owner && instance !== connection.instance)
      await shutOut(instance, GONE_SECONDS, connection, register);
  for (const [instance, found] of await register.list("fenced"))
    if (instance.startsWith(`${connection.owner}.`)) await register.replace("fenced", instance, found, null);
  await settleRows(connection.owner, connection.owner, register, reaper);
  await reaper.reapTrash();
}

/** From its end on, nothing that the opening's processes send is done, and nothing is theirs. */
async function shutOut(
  instance: string,
  seconds: number,
  connection: CephConnection,
  register: Register,
): Promise<void> {
  const client = await connection.client();
  const instances = await register.list("instance");
  const living = new Set([...instances].filter(([other]) => other !== instance).map(([, { row }]) => row.address));
  const writers = [...(await register.list("writer"))].filter(([, { row }]) => row.instance === instance);
  const fenced = instances.get(instance);
  const addresses = new Set(fenced === undefined ? [] : [fenced.row.address]);
  for (const [, { row }] of writers) {
    if (row.address !== null) addresses.add(row.address);
    for (const watcher of await client.watchers(row.image)) if (!living.has(watcher)) addresses.add(watcher);
  }
  await step("storage.fence.blocklist", () => refuse(client, [...addresses], seconds));
  for (const [id, found] of writers) {
    await step("storage.fence.locks", () => client.breakLocks(found.row.image, [...addresses]));
    await step("storage.fence.forget", () => register.replace("writer", id, found, null));
  }
  if (fenced !== undefined) await register.replace("instance", instance, fenced, null);
}

async function refuse(client: RbdClient, addresses: readonly string[], seconds: number): Promise<void> {
  if (addresses.length > 0) await client.blocklist(addresses, seconds);
}

/** Removes what the host was making or removing, and its ephemeral images. What it grew is grown when it is used next. */
async function settleRows(owner: string, by: string, register: Register, reaper: Reaper): Promise<void> {
  for (const [id, found] of await register.list("image"))
    if (found.row.owner === owner && (found.row.isEphemeral || !isThere(found.row))) await reaper.remove(id, found, by);
}
