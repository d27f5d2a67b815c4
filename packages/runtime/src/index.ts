export type { NetworkOptions } from "./network/sandbox-network.ts";
export { OciRuntime, type OciRuntimeOptions, type RuntimeLogger } from "./oci/oci-runtime.ts";
export type { MountSpec, RootSpec, RunningSandbox, SandboxLimits, SandboxRuntime, SandboxSpec } from "./runtime.ts";
