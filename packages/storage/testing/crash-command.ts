import { fileURLToPath } from "node:url";
import type { CephStorageOptions } from "../src/ceph/ceph-storage.ts";
import type { LocalStorageOptions } from "../src/local/local-storage.ts";
import type { SpreadStorageOptions } from "../src/spread/spread-storage.ts";
import type { TwoClasses } from "./class-test-pool.ts";

/** What `crash-operation.ts` is told. `images`: where a local pool has its images. */
export type CrashSetting =
  | { readonly kind: "local"; readonly options: LocalStorageOptions; readonly images: readonly string[] }
  | {
      readonly kind: "spread";
      readonly options: Omit<SpreadStorageOptions, "onProblem">;
      readonly images: readonly string[];
    }
  | { readonly kind: "classes"; readonly options: TwoClasses; readonly images: readonly string[] }
  | { readonly kind: "ceph"; readonly options: CephStorageOptions };

/** Opens the same pool in a process of its own and runs one operation. */
export function crashCommand(setting: CrashSetting): readonly string[] {
  const isolate = fileURLToPath(new URL("../../../scripts/isolate.sh", import.meta.url));
  const operation = fileURLToPath(new URL("./crash-operation.ts", import.meta.url));
  return [isolate, process.execPath, operation, JSON.stringify(setting)];
}
