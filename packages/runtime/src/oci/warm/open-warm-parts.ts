import { join } from "node:path";
import { UndoStack } from "@caisson/linux";
import type { SharedParts } from "../shared-parts.ts";
import { Adopter } from "./adopter.ts";
import { prepareLowerPath } from "./lower-path.ts";
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
  const lower = undo.use(await prepareLowerPath(join(runDirectory, "lower"), settings.isPortable));
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
  return { pool, adopter, lowerPath: lower.path, [Symbol.asyncDispose]: () => resources[Symbol.asyncDispose]() };
}
