export { openSqliteStore } from "./sqlite/sqlite-store.ts";
export type * from "./store.ts";
