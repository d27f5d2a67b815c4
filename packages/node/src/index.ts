export type { EgressPolicy, ExitCause } from "@caisson/runtime";
export type { Capacity, DiskCapacity, ImagePlace, KnownUsage, PoolCapacity } from "@caisson/storage";
export type {
  BaseImage,
  DiskExport,
  DiskMeasurement,
  DiskPart,
  DiskPiece,
  DiskReference,
  ExportSpec,
  ImportSpec,
  MeasureOptions,
  NewDiskSpec,
  Node,
  NodeDescription,
  NodeEvent,
  OwnPoolUsage,
  PoolGrowth,
  PresentSandbox,
  RegionDescription,
  SandboxEnd,
  SandboxMount,
  SandboxSpec,
  SealedDisk,
  SealSpec,
  StartedSandbox,
  TakeNodeEvent,
} from "./node.ts";
export { type NodeOptions, type OpenNode, openNode } from "./open-node.ts";
export {
  cephPoolName,
  checkReplicatedPool,
  REPLICATED_MARK,
  type ReplicatedPoolSettings,
} from "./pools/open-replicated-pool.ts";
export { poolDirectory } from "./pools/pool-directory.ts";
export { diskNeedsRoom, needsRoom } from "./pools/pool-room.ts";
