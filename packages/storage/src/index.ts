export { CephStorage, type CephStorageOptions } from "./ceph/ceph-storage.ts";
export { checkCeph } from "./ceph/check-ceph.ts";
export { ClassStorage, type ClassStorageOptions } from "./classes/class-storage.ts";
export type { ReplicatedPoolOptions } from "./classes/replicated-pool.ts";
export type * from "./driver.ts";
export {
  type FileSystemKind,
  formatFileSystem,
  growFileSystem,
  mountVolume,
  recoverFileSystem,
  trimVolume,
  UnwrittenDataError,
  unmountVolume,
  type VolumeMount,
} from "./file-system.ts";
export {
  type ForeignFileSystem,
  readFileSystemIdentity,
  settleForeignFileSystem,
} from "./foreign-file-system.ts";
export { type FreezeOptions, FrozenFileSystem } from "./frozen-file-system.ts";
export { countInodes, type InodeCount } from "./inodes.ts";
export { LocalStorage, type LocalStorageOptions } from "./local/local-storage.ts";
export { type DiskSpeed, measureDiskSpeed, type Speed } from "./local/speed/disk-speed.ts";
export { withNewIdentity } from "./new-identity.ts";
export { type ScratchDisk, ScratchDisks } from "./scratch-disks.ts";
export { SpaceGuard } from "./space-guard.ts";
export type { FurtherDisk } from "./spread/disk.ts";
export { SpreadStorage, type SpreadStorageOptions } from "./spread/spread-storage.ts";
export { WriteWitness } from "./write-witness.ts";
