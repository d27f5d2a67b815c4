export type { ObjectStore, StoredObject } from "./object-store.ts";
export { type ObjectStoreAddress, openObjectStore } from "./open-object-store.ts";
export { orAborted } from "./or-aborted.ts";
