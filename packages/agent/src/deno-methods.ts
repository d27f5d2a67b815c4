import type { MethodTable } from "./method.ts";

export const denoMethods: MethodTable = {};
