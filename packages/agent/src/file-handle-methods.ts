import type { MethodTable } from "./method.ts";

export const fileHandleMethods: MethodTable = {};
