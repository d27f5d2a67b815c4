import type { MethodTable } from "./method.ts";

export const fileSystemMethods: MethodTable = {};
