import { mkdir, rmdir } from "node:fs/promises";
import { join } from "node:path";
import { cloneTree, createFileSystemMount, hasErrorCode, UndoStack, unmount } from "@caisson/linux";
import type { SharedParts } from "../shared-parts.ts";
import { Adopter } from "./adopter.ts";
import { mountPlaceholder } from "./placeholder.ts";
import { WarmContainer } from "./warm-container.ts";
import { WarmPool } from "./warm-pool.ts";
import type { WarmParts } from "./warm-start.ts";

export interface WarmSettings {
  /** Containers that wait; 0: none. Each takes about 15 MiB of memory, and a place of a sandbox until one needs it. */
  readonly count: number;
  /** The memory of the sandboxes that they wait for at first; later that of the latest creates. */
  readonly memoryBytes: number;
  /** Whether to do without what Linux has since 6.15. Default: as the kernel is. */
  readonly isPortable?: boolean;
}

interface WarmLogger {
  warn(details: object, message: string): void;
}

/** Begins to keep containers waiting. Disposing it ends those that wait, and waits for what is under way. */
export async function openWarmParts(
  shared: SharedParts,
  { count, memoryBytes, ...settings }: WarmSettings,
  logger: WarmLogger | undefined,
): Promise<WarmParts & AsyncDisposable> {
  const { runDirectory } = shared;
  await using undo = new UndoStack();
  const placeholder = join(runDirectory, "placeholder");
  undo.use(await mountPlaceholder(placeholder));
  const isPortable = settings.isPortable ?? !(await canStackUnattached());
  const lowerPath = isPortable ? join(runDirectory, "lower") : null;
  if (lowerPath !== null) {
    // Left by a server that was killed without namespaces of its own.
    await unmount(lowerPath, { isLazy: true });
    await mkdir(lowerPath, { recursive: true, mode: 0o711 });
    undo.defer(() => rmdir(lowerPath));
  }
  const adopter = undo.use(new Adopter());
  adopter.prepare();
  const pool = undo.use(
    new WarmPool({
      count,
      memoryBytes,
      make: (bytes) => new WarmContainer(bytes),
      prepare: (container, signal) => container.prepare(shared, placeholder, signal),
      isUpToDate: (container) => container.isUpToDate(shared),
      warn: (error, message) => logger?.warn({ err: error }, message),
    }),
  );
  pool.fill();
  const resources = undo.move();
  return { pool, adopter, lowerPath, [Symbol.asyncDispose]: () => resources[Symbol.asyncDispose]() };
}

/** Linux 6.15 and later copy a mount that is attached nowhere, and take one for a layer of an overlay. */
async function canStackUnattached(): Promise<boolean> {
  await using tmpfs = await createFileSystemMount({ type: "tmpfs", source: "caisson", options: { size: "4096" } });
  try {
    await using copy = await cloneTree(tmpfs.path);
    return copy.fd >= 0;
  } catch (error) {
    if (hasErrorCode(error, "EINVAL")) return false;
    throw error;
  }
}
