export { decodeVolumes, type VolumeMount } from "./config-volumes.ts";
export { type NetworkRule, parseNetworkRule } from "./network-rule.ts";
export * from "./rest.ts";
export * from "./rpc.ts";
export type * from "./rpc-methods.ts";
export {
  decodeSandboxConfig,
  MAX_LIFETIME_MS,
  MEMORY_LIMITS_MB,
  type SandboxConfig,
  type Secret,
} from "./sandbox-config.ts";
export { MAX_ENVIRONMENT_BYTES, MAX_VARIABLE_BYTES, TEXT_OVERHEAD_BYTES, variableBytes } from "./variable.ts";
