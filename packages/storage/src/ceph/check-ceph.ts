import { access } from "node:fs/promises";
import { runTool } from "@caisson/linux";
import { CaissonError } from "@caisson/model";
import { type CephPool, RbdClient } from "./rbd-client.ts";

/** Where Debian has the daemon's part for Ceph. */
const BLOCK_DRIVERS = ["/usr/lib/x86_64-linux-gnu/qemu/block-rbd.so", "/usr/lib/aarch64-linux-gnu/qemu/block-rbd.so"];
const ANSWER_TIMEOUT_MS = 10_000;

/** Whether this host can use the pool: null, or what is wrong and what to do. Takes about ten seconds where the cluster does not answer. */
export async function checkCeph(pool: CephPool): Promise<string | null> {
  try {
    await runTool("qemu-storage-daemon", ["--version"]);
  } catch {
    return "qemu-storage-daemon is missing, which attaches images of Ceph. Install it: apt-get install qemu-utils qemu-block-extra (on Debian 12 qemu-system-common qemu-block-extra)";
  }
  const found = await Promise.all(
    BLOCK_DRIVERS.map((path) =>
      access(path).then(
        () => true,
        () => false,
      ),
    ),
  );
  if (!found.includes(true))
    return "qemu-storage-daemon cannot open images of Ceph. Install its part for that: apt-get install qemu-block-extra";
  try {
    const client = await RbdClient.open({ ...pool, answerTimeoutMs: ANSWER_TIMEOUT_MS });
    await client.close();
    return null;
  } catch (error) {
    if (error instanceof CaissonError) return error.message;
    throw error;
  }
}
