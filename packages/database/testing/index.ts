export * from "./conformance.ts";
export { CutProxy } from "./cut-proxy.ts";
export { PostgresServer } from "./postgres-server.ts";
export * from "./samples.ts";
