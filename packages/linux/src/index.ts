export { Descriptor, type HasDescriptor } from "./descriptor.ts";
export { faultPoint, InjectedFault, step } from "./fault.ts";
export { hasErrorCode, KernelError } from "./kernel-error.ts";
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
