import { denoMethods } from "./deno-methods.ts";
import { environmentMethods } from "./environment.ts";
import { exposureMethods } from "./exposure-methods.ts";
import { fetchMethods } from "./fetch-methods.ts";
import { fileHandleMethods } from "./file-handle-methods.ts";
import { fileSystemMethods } from "./file-system-methods.ts";
import type { Method, MethodTable } from "./method.ts";
import { processMethods } from "./process-methods.ts";

/** Every method but `abort`, which the connection answers itself. A name that is not here is "Method not found" (protocol.md 3.3). */
export const methods: ReadonlyMap<string, Method> = new Map(
  [
    fileSystemMethods,
    fileHandleMethods,
    processMethods,
    denoMethods,
    fetchMethods,
    environmentMethods,
    exposureMethods,
  ].flatMap((group: MethodTable) => Object.entries(group)),
);
