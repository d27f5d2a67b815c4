import type { MethodTable } from "./method.ts";

export const fetchMethods: MethodTable = {};
