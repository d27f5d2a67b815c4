import { denoMethods } from "../deno/deno-methods.ts";
import { editorMethods } from "../editor/editor-methods.ts";
import { fileHandleMethods } from "../files/file-handle-methods.ts";
import { fileSystemMethods } from "../files/file-system-methods.ts";
import { exposureMethods } from "../network/exposure-methods.ts";
import { fetchMethods } from "../network/fetch-methods.ts";
import { environmentMethods } from "../processes/environment.ts";
import { processMethods } from "../processes/process-methods.ts";
import type { Method, MethodTable } from "./method.ts";

/** Every method of the protocol but `abort`, which the connection answers itself. */
const table: Required<Omit<MethodTable, "abort">> = {
  ...fileSystemMethods,
  ...fileHandleMethods,
  ...processMethods,
  ...denoMethods,
  ...fetchMethods,
  ...environmentMethods,
  ...exposureMethods,
  ...editorMethods,
};

/** By name, as clients call them. A name that is not here is "Method not found" (protocol.md 3.3). */
export const methods: ReadonlyMap<string, Method> = new Map<string, Method>(Object.entries(table));
