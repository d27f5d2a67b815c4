export type * from "./driver.ts";
export {
  type FileSystemKind,
  formatFileSystem,
  growFileSystem,
  isFormatted,
  minimumCloneBytes,
  mountVolume,
  recoverFileSystem,
  requireCloneFits,
  trimVolume,
  UnwrittenDataError,
  unmountVolume,
  type VolumeMount,
} from "./file-system.ts";
export { type FreezeOptions, FrozenFileSystem } from "./frozen-file-system.ts";
export { LocalStorage, type LocalStorageOptions } from "./local/local-storage.ts";
export { type ScratchDisk, ScratchDisks } from "./scratch-disks.ts";
export { readSuperblock, type Superblock } from "./superblock.ts";
