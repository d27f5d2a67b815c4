export {
  CHUNK_BYTES,
  type Chunk,
  chunkCount,
  chunkLength,
  decodeChunk,
  type EncodedChunk,
  encodeChunk,
  isZero,
} from "./chunk.ts";
export { isSnapshotFile, SNAPSHOT_FILE_VERSION } from "./file/frame.ts";
export { SnapshotFileReader } from "./file/read-file.ts";
export { writeSnapshotFile } from "./file/write-file.ts";
export { type FileSystemIdentity, parseHeader, type SnapshotHeader, type SnapshotOrigin } from "./header.ts";
export { dataRuns } from "./image/data-runs.ts";
export { peek } from "./image/peek.ts";
export { readRaw, writeRaw } from "./image/raw.ts";
export { type ImageDifference, type ImagePart, readChunks, type SourceImage } from "./image/read-chunks.ts";
export { fileSystemBytes } from "./image/superblock.ts";
export { ImageDigest } from "./image-digest.ts";
export { invalidFile } from "./invalid-file.ts";
export { type BackupContent, type BackupFile, type BackupManifest, parseBackupId } from "./store/backup-manifest.ts";
export type { Backups, ListedBackup, OpenedBackup, StoredBackup } from "./store/backups.ts";
export { listInstallations } from "./store/installations.ts";
export { absentKey, type InstallationKeys } from "./store/organization-keys.ts";
export { SnapshotStore, type StoredSnapshot, type Upload } from "./store/snapshot-store.ts";
export { StoreDamageError } from "./store/store-damage.ts";
export type { RememberedStore, StoreMemory } from "./store/store-memory.ts";
export type { AcceptedStore } from "./store/store-ownership.ts";
