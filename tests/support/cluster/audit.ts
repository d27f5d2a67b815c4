import { glob, readdir, readFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { hasErrorCode } from "@caisson/linux";
import { testTimeoutMs } from "@caisson/linux/testing";
import { RUNTIME_CACHE } from "@caisson/runtime/testing";
import type { Fleet, NodeMachine } from "./fleet.ts";
import { mainProcess } from "./processes.ts";

/** What was begun before a look may still end: connections that are gone are noticed within 10 s, and what failed is tried again with pauses. */
const SETTLE_MS = 90_000;

/**
 * Rows and hosts say the same when nothing is under way: each sandbox that runs on a node is one that the store knows, and the other way round; so are volumes that are mounted and images in pools; no volume has two
 * writers or two devices; nothing is half made. Returns what differs still after `SETTLE_MS`.
 */
export async function auditFleet(fleet: Fleet): Promise<readonly string[]> {
  const deadline = performance.now() + testTimeoutMs(SETTLE_MS);
  for (;;) {
    // A node that is just ending or starting is looked at again.
    const found = await differences(fleet).catch((error: unknown) => [`the audit failed: ${String(error)}`]);
    if (found.length === 0 || performance.now() > deadline) return found;
    await delay(250);
  }
}

async function differences(fleet: Fleet): Promise<readonly string[]> {
  const found: string[] = [];
  const unsettled = await fleet.rows<{ id: string; state: string }>(
    "SELECT id, state FROM disks WHERE state IN ('creating', 'purging') OR grow_to_bytes IS NOT NULL",
  );
  found.push(...unsettled.map(({ id, state }) => `leak: ${id} stays ${state}`));
  const writers = await fleet.rows<{ volume_id: string }>(
    "SELECT volume_id FROM holds WHERE NOT is_read_only GROUP BY volume_id HAVING count(*) > 1",
  );
  found.push(...writers.map(({ volume_id }) => `two writers: the store lets two sandboxes write to ${volume_id}`));
  found.push(...(await doubleDevices()));
  for (const node of fleet.nodes)
    found.push(...(await nodeDifferences(fleet, node)).map((text) => `${text} (${node.name})`));
  return found;
}

async function nodeDifferences(fleet: Fleet, { process, region }: NodeMachine): Promise<readonly string[]> {
  const { nodeId, dataDirectory, pid } = process;
  if (pid === null) return ["the node does not run"];
  const sandboxes = await fleet.rows<{ id: string }>(
    `SELECT id FROM sandboxes WHERE node_id = '${nodeId}' AND status <> 'stopped'`,
  );
  const disks = await fleet.rows<{ id: string }>(`SELECT id FROM disks WHERE node_id = '${nodeId}'`);
  const held = await fleet.rows<{ id: string }>(
    `SELECT DISTINCT volume_id AS id FROM holds JOIN sandboxes ON sandboxes.id = sandbox_id WHERE node_id = '${nodeId}'`,
  );
  const [first] = await fleet.rows<{ reserved_places: string }>(
    `SELECT reserved_places FROM nodes WHERE id = '${nodeId}'`,
  );
  // Its mounts are in a namespace of its own.
  const inside = join(`/proc/${await mainProcess(pid)}/root`, dataDirectory, "regions", region);
  const pool = join(inside, "pool/mount");
  const sealed = await readdir(join(pool, "sealed"));
  const images = [...(await readdir(join(pool, "images"))), ...sealed];
  return [
    ...compare(
      "sandbox",
      ids(sandboxes),
      (await names(join(dataDirectory, "run/state"))).filter((name) => name !== RUNTIME_CACHE),
    ),
    ...compare("sandbox's directory", ids(sandboxes), await names(join(dataDirectory, "run/sandboxes"))),
    ...compare(
      "mounted volume",
      ids(held),
      (await names(join(inside, "mounts"))).filter((name) => name.startsWith("vol_")),
    ),
    ...compare(
      "image",
      ids(disks),
      images.filter((name) => !name.startsWith("img_")),
    ),
    ...(await readdir(join(pool, "incoming"))).map((name) => `leak: ${name} is half made`),
    ...(await readdir(join(pool, "trash"))).map((name) => `leak: ${name} is half removed`),
    ...(await readdir(join(pool, "spares")))
      .filter((name) => !sealed.includes(name.split(".")[0] as string))
      .map((name) => `leak: ${name} is the clone of an image that is gone`),
    ...(Number(first?.reserved_places) === sandboxes.length
      ? []
      : [`leak: ${first?.reserved_places} places are taken, by ${sandboxes.length} sandboxes`]),
  ];
}

function compare(what: string, known: readonly string[], there: readonly string[]): readonly string[] {
  return [
    ...there
      .filter((id) => !known.includes(id))
      .map((id) => `leak: the ${what} ${id} is on the host, and no row knows it`),
    ...known
      .filter((id) => !there.includes(id))
      .map((id) => `lost: the ${what} ${id} is in the rows, and not on the host`),
  ];
}

/** An image that is attached twice could be written to twice. */
async function doubleDevices(): Promise<readonly string[]> {
  const devices = await Array.fromAsync(glob("/sys/block/loop*/loop/backing_file"));
  // One that is detached meanwhile has none any more.
  const files = await Promise.all(devices.map(async (path) => (await readFile(path, "utf8").catch(() => "")).trim()));
  const volumes = files.filter((file) => basename(file).startsWith("vol_"));
  return volumes
    .filter((file, index) => volumes.indexOf(file) !== index)
    .map((file) => `two writers: ${file} is attached twice`);
}

/** Of a directory that is made with the first sandbox. */
async function names(directory: string): Promise<readonly string[]> {
  try {
    return await readdir(directory);
  } catch (error) {
    if (hasErrorCode(error, "ENOENT")) return [];
    throw error;
  }
}

function ids(rows: readonly { readonly id: string }[]): readonly string[] {
  return rows.map(({ id }) => id);
}
