export { objectStoreConformance } from "./conformance.ts";
export { type Fault, FaultProxy } from "./fault-proxy.ts";
export { SeaweedServer } from "./seaweed-server.ts";
