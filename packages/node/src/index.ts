export type { EgressPolicy, ExitCause } from "@caisson/runtime";
export type { Capacity, DiskCapacity, ImagePlace, KnownUsage, PoolCapacity } from "@caisson/storage";
export type {
  BaseImage,
  DiskMeasurement,
  DiskReference,
  MeasureOptions,
  NewDiskSpec,
  Node,
  NodeDescription,
  NodeEvent,
  OwnPoolUsage,
  PoolGrowth,
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
export { diskNeedsRoom, needsRoom } from "./pools/pool-room.ts";
