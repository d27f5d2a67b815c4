import { mkdir, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { createFileSystemMount, moveMount, readMounts, setMountAttributes, unmount } from "@caisson/linux";
import { AGENT_TARGET } from "../agent/agent-bundle.ts";

/** A mount that a container has below the placeholder, and takes along to its root. Mounts below it come with it. */
export interface KeptMount {
  readonly path: string;
  readonly kind: "directory" | "file";
}

export const KEPT_MOUNTS: readonly KeptMount[] = [
  ...["/proc", "/sys", "/dev", "/run", AGENT_TARGET].map((path) => ({ path, kind: "directory" }) as const),
  { path: "/usr/local/bin/deno", kind: "file" },
];

/** Where the real root is attached for a moment. */
export const NEW_ROOT = "/new";

const OPTIONS = { size: "65536", nr_inodes: "64", mode: "0755" };

/**
 * Mounts the root of all containers that wait: nothing but places to mount on, and nobody can write there. Disposing it unmounts it.
 */
export async function mountPlaceholder(target: string): Promise<AsyncDisposable> {
  await mkdir(target, { recursive: true, mode: 0o711 });
  // Left by a server that was killed without namespaces of its own.
  if ((await readMounts()).some((mount) => mount.target === target)) await unmount(target);
  await using tmpfs = await createFileSystemMount({ type: "tmpfs", source: "caisson", options: OPTIONS });
  for (const { path, kind } of KEPT_MOUNTS) {
    const place = join(tmpfs.path, path);
    await mkdir(kind === "file" ? dirname(place) : place, { recursive: true, mode: 0o755 });
    if (kind === "file") await writeFile(place, "", { mode: 0o755 });
  }
  await mkdir(join(tmpfs.path, NEW_ROOT), { mode: 0o755 });
  await setMountAttributes(tmpfs, { isReadOnly: true, noDev: true, noSuid: true });
  await moveMount(tmpfs, target);
  return { [Symbol.asyncDispose]: () => unmount(target) };
}
