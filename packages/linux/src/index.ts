export { readFlushCounts } from "./blocks/block-statistics.ts";
export {
  BlockTrace,
  BlockTracing,
  endStandingTrace,
  type StandingTrace,
  type TraceOrder,
} from "./blocks/block-trace.ts";
export { changedParts, type FilePart } from "./blocks/changed-parts.ts";
export { countExtents, type Extent, extents, readExtentsSync, readMappedBytes } from "./blocks/extent-map.ts";
export {
  LoopDevice,
  type LoopOptions,
  type LoopStatus,
  listLoopDevices,
} from "./blocks/loop-device.ts";
export { hasReverseMap, holdsReverseMap } from "./blocks/xfs-features.ts";
export { type Descriptor, duplicateDescriptor, type HasDescriptor } from "./calls/descriptor.ts";
export { FileLock, lockFile } from "./calls/file-lock.ts";
export {
  allocateRange,
  changeMode,
  cloneFile,
  cloneRangeSync,
  type FileSystemSpace,
  openFile,
  readAvailableBytesNow,
  readFileSystemBlocksNow,
  readFileSystemInodesNow,
  readSpace,
  renameFile,
  syncDirectory,
  syncFile,
  syncFileSystem,
  syncFileSystemSync,
  truncateFile,
  unlinkFile,
} from "./calls/files.ts";
export { connectInside } from "./calls/inside-connection.ts";
export { hasErrorCode, KernelError } from "./calls/kernel-error.ts";
export { type Ipv4Endpoint, readOriginalDestination } from "./calls/original-destination.ts";
export { readTcpPeer, type TcpPeer } from "./calls/tcp-peer.ts";
export { openUntimed } from "./calls/untimed-file.ts";
export { ByteBudget } from "./concurrency/byte-budget.ts";
export { KeyedLock } from "./concurrency/keyed-lock.ts";
export { ReadyQueue } from "./concurrency/ready-queue.ts";
export { settleAll } from "./concurrency/settle-all.ts";
export { HttpGuard, type HttpLimits, type HttpRefusal, passBodyOn } from "./connections/http-guard.ts";
export { descriptorOf, stopReading } from "./connections/socket-descriptor.ts";
export {
  readDirtyBytes,
  readExt4Attribute,
  readExt4AttributeNow,
  setReservedClusters,
} from "./mounts/ext4-attributes.ts";
export { freeze, freezeSync, shutDown, thaw, trim } from "./mounts/freeze.ts";
export { ensureInsideSync } from "./mounts/inside-sync.ts";
export {
  bindMount,
  cloneTree,
  createFileSystemMount,
  type FileSystemMount,
  type MountAttributes,
  mountFileSystem,
  moveMount,
  setMountAttributes,
  type TreeAttributes,
  unmount,
} from "./mounts/mount.ts";
export { findMount, type MountInfo, readMounts } from "./mounts/mount-info.ts";
export {
  cloneTreeSync,
  createFileSystemMountSync,
  detachFormerRootSync,
  detachSync,
  moveMountSync,
  reconfigureSync,
  replaceRootSync,
} from "./mounts/mount-sync.ts";
export { createNetworkSysfs } from "./mounts/network-sysfs.ts";
export { unmountElsewhere } from "./mounts/unmount-elsewhere.ts";
export { faultPoint, faultPointSync, foreseeFaultPoints, InjectedFault, step } from "./operations/fault.ts";
export {
  completeSteps,
  isDoneWithin,
  type Operation,
  type OperationContext,
  runOperation,
  Step,
  type StepWork,
  undoSoon,
} from "./operations/operation.ts";
export { PersistentWork, type WorkDescription, type WorkLogger } from "./operations/persistent-work.ts";
export { UndoStack } from "./operations/undo-stack.ts";
export {
  type CgroupHierarchy,
  type CgroupLayout,
  type CgroupLimits,
  type CgroupSetting,
  type Cgroups,
  cgroupProcesses,
  createCgroup,
  type DiskLimits,
  diskHierarchy,
  hierarchyOf,
  joinCgroup,
  limitCgroupDevices,
  limitSettings,
  oomKills,
  readCgroups,
  readProcessors,
  removeCgroup,
  weightSettings,
  writeCgroup,
  writeCgroupSync,
} from "./processes/cgroup.ts";
export { withExpeditedRcu } from "./processes/expedited-rcu.ts";
export { withFileSystemIdsSync } from "./processes/file-system-ids.ts";
export { type ForeignNamespaces, HomeNamespaces } from "./processes/foreign-namespaces.ts";
export {
  endProcessForMemory,
  type MemoryUse,
  readMemoryStallUs,
  readMemoryUse,
} from "./processes/memory-use.ts";
export { limitProcessesSync } from "./processes/process-limit.ts";
export { haltsWhenIdle, keepProcessorsAwake } from "./processes/processor-idle.ts";
export { hasCrashed, runTool, ToolError, type ToolOptions } from "./processes/run-tool.ts";
export { type SpawnedProgram, spawnProgram } from "./processes/spawn-program.ts";
export {
  holdNewNamespaces,
  type IdMapping,
  type IdRange,
  type NamespaceHolder,
  openNamespace,
} from "./processes/user-namespace.ts";
