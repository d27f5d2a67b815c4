export { readFlushCounts } from "./block-statistics.ts";
export {
  type CgroupHierarchy,
  type CgroupLayout,
  type CgroupLimits,
  type Cgroups,
  cgroupProcesses,
  createCgroup,
  type DiskLimits,
  diskHierarchy,
  hierarchyOf,
  joinCgroup,
  limitCgroup,
  limitCgroupDevices,
  listCgroups,
  readCgroups,
  removeCgroup,
} from "./cgroup.ts";
export { Descriptor, type HasDescriptor } from "./descriptor.ts";
export { withExpeditedRcu } from "./expedited-rcu.ts";
export { type Extent, extents, type MappedBytes, readMappedBytes } from "./extent-map.ts";
export { faultPoint, InjectedFault, step } from "./fault.ts";
export { FileLock, lockFile, tryLockFile } from "./file-lock.ts";
export {
  allocateRange,
  changeMode,
  cloneFile,
  type FileSystemSpace,
  openFile,
  punchHole,
  readSpace,
  renameFile,
  sameFile,
  syncDirectory,
  syncFile,
  syncFileSystem,
  truncateFile,
  unlinkFile,
} from "./files.ts";
export { freeze, shutDown, thaw, trim } from "./freeze.ts";
export { hasErrorCode, KernelError } from "./kernel-error.ts";
export { assertNoLeaks, findLeaks, type LeakScope } from "./leak-check.ts";
export {
  LoopDevice,
  type LoopOptions,
  type LoopStatus,
  listLoopDevices,
  readBackingFile,
  readLoopStatus,
} from "./loop-device.ts";
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
} from "./mount.ts";
export { findMount, type MountInfo, readMounts } from "./mount-info.ts";
export { type Ipv4Endpoint, readOriginalDestination } from "./original-destination.ts";
export { haltsWhenIdle, keepProcessorsAwake } from "./processor-idle.ts";
export { runTool, ToolError, type ToolOptions } from "./run-tool.ts";
export { openUntimed } from "./untimed-file.ts";
export { holdNewNamespaces, type IdRange, type NamespaceHolder, openNamespace } from "./user-namespace.ts";
