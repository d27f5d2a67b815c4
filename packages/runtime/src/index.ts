export { countPlaces } from "./network/claim-blocks.ts";
export { PLACES_DEFAULT, parseSandboxSubnet } from "./network/places.ts";
export { readResolvers } from "./network/resolvers.ts";
export type { NetworkOptions } from "./network/sandbox-network.ts";
export { agentSources } from "./oci/agent/agent-sources.ts";
export { readRuntimeVersion } from "./oci/find-oci-runtime.ts";
export {
  type HostLimit,
  readLimitsInReach,
  readProcessLimit,
  readTerminalLimit,
} from "./oci/limits/host-limits.ts";
export { type HostPlaces, hostPlaces } from "./oci/limits/host-places.ts";
export { HostShares } from "./oci/limits/host-shares.ts";
export { OciRuntime, type OciRuntimeOptions, type RuntimeLogger } from "./oci/oci-runtime.ts";
export { tryOciRuntime } from "./oci/try/try-oci-runtime.ts";
export { tryWarmStart } from "./oci/try/try-warm-start.ts";
export type {
  EgressPolicy,
  EgressRule,
  EgressSecret,
  ExitCause,
  MountSpec,
  RootSpec,
  RunningSandbox,
  SandboxLimits,
  SandboxRuntime,
  SandboxSpec,
} from "./runtime.ts";
