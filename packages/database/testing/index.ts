export * from "./conformance.ts";
export { CutProxy } from "./cut-proxy.ts";
export { PostgresServer } from "./postgres-server.ts";
export { SAMPLE_OWNER, sampleDisk, sampleNode } from "./samples.ts";
