import type { MethodTable } from "./method.ts";

export const processMethods: MethodTable = {};
