import { denoMethods } from "../deno/deno-methods.ts";
import { fileHandleMethods } from "../files/file-handle-methods.ts";
import { fileSystemMethods } from "../files/file-system-methods.ts";
import { exposureMethods } from "../network/exposure-methods.ts";
import { fetchMethods } from "../network/fetch-methods.ts";
import { environmentMethods } from "../processes/environment.ts";
import { processMethods } from "../processes/process-methods.ts";
import type { Method, MethodTable } from "./method.ts";

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
