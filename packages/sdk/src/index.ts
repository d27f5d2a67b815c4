/**
 * Persistent sandboxes from JavaScript and TypeScript: volumes, snapshots and sandboxes of a Caisson server.
 *
 * @module
 */
export { Client } from "./client.ts";
export type { BaseClientOptions, Region, SandboxEndpointOptions } from "./core/configuration.ts";
export type { SandboxEnd } from "./core/errors.ts";
export {
  ApiError,
  AuthenticationError,
  BadRequestError,
  ConflictError,
  ConnectionClosedError,
  ConnectionEstablishmentError,
  InsufficientStorageError,
  InvalidApiEndpoint,
  InvalidMemoryError,
  InvalidSandboxEndpoint,
  InvalidTimeoutError,
  InvalidTokenError,
  MissingOrgError,
  MissingTokenError,
  NetworkError,
  NotFoundError,
  NotSupportedError,
  PayloadTooLargeError,
  PermissionDeniedError,
  RequestTimeoutError,
  RpcError,
  SandboxKillError,
  SandboxSdkError,
  ServerError,
  ServiceUnavailableError,
  TooManyRequestsError,
} from "./core/errors.ts";
export type { CreateRequestOptions, DeleteOptions, RequestOptions } from "./core/http.ts";
export type { Duration, Memory, SizeText } from "./core/limits.ts";
export type { Cursor, ListOptions, PaginatedList } from "./core/page.ts";
export type { FileInfo, FileTime } from "./fs/file-info.ts";
export { FsFile, SeekMode } from "./fs/fs-file.ts";
export type {
  DirEntry,
  ExpandGlobOptions,
  MakeTempOptions,
  MkdirOptions,
  OpenOptions,
  ReadFileOptions,
  RemoveOptions,
  SkippedFile,
  SkipReason,
  TransferOptions,
  TransferProgress,
  WalkEntry,
  WalkOptions,
  WriteFileOptions,
} from "./fs/options.ts";
export { SandboxFs } from "./fs/sandbox-fs.ts";
export type { CallOptions } from "./internal/connection.ts";
export { errors, type SandboxErrorName } from "./internal/error-object.ts";
export {
  ChildProcess,
  type ChildProcessOutput,
  type ChildProcessStatus,
  type OutputMode,
  type Signal,
} from "./process/child-process.ts";
export {
  SandboxCommandBuilder,
  SandboxCommandChild,
  type SandboxCommandResult,
  type ShellPipeKind,
} from "./process/command-builder.ts";
export { SandboxCommandError } from "./process/command-error.ts";
export { type CodeExtension, type DenoReplOptions, type DenoRunOptions, SandboxDeno } from "./process/deno.ts";
export { DenoProcess, DenoRepl } from "./process/deno-process.ts";
export type { RequestInit } from "./process/fetch.ts";
export { KillController, KillSignal, type KillSignalLink, type KillSignalListener } from "./process/kill-signal.ts";
export type { SpawnOptions } from "./process/spawn.ts";
export { Terminal, type TerminalOptions, type TerminalSize } from "./process/terminal.ts";
export { type Backup, type BackupOverview, Backups, type CreatedBackup } from "./resources/backups.ts";
export type { Descendant, ObjectReference, Parent } from "./resources/common.ts";
export {
  type BelievedAuthority,
  type CreatedJoinToken,
  type ForgetNodeOptions,
  type JoinToken,
  type JoinTokenInit,
  type LostVolumeName,
  type Node,
  type NodeAuthority,
  type NodeLoss,
  Nodes,
  type RetireAuthorityOptions,
} from "./resources/nodes.ts";
export { type Organization, Organizations } from "./resources/organizations.ts";
export { type Pool, type PoolDisk, Pools } from "./resources/pools.ts";
export {
  type CreatedPreview,
  type Preview,
  type PreviewInit,
  type PreviewLink,
  type PreviewLinkOptions,
  Previews,
} from "./resources/previews.ts";
export { Sandboxes, type SandboxesListOptions } from "./resources/sandboxes.ts";
export { type Replication, Snapshot, type SnapshotFetch, type SnapshotInit } from "./resources/snapshot.ts";
export {
  type KeyRotation,
  type KeyRotationStatus,
  SnapshotStore,
  type SnapshotStoreStatus,
} from "./resources/snapshot-store.ts";
export {
  type SnapshotListOptions,
  Snapshots,
  type SnapshotVerification,
  type VerifiedPart,
} from "./resources/snapshots.ts";
export { Ssh, type SshEndpoint } from "./resources/ssh.ts";
export { type SshKey, type SshKeyInit, SshKeys } from "./resources/ssh-keys.ts";
export { type CreatedToken, type Token, type TokenInit, Tokens } from "./resources/tokens.ts";
export type { SnapshotExportOptions, SnapshotImportInit, SnapshotImportSource } from "./resources/transfer.ts";
export {
  type Period,
  type StorageClass,
  Volume,
  type VolumeError,
  type VolumeInit,
  type VolumeSchedule,
} from "./resources/volume.ts";
export { type VolumeListOptions, Volumes } from "./resources/volumes.ts";
export { SandboxEnv } from "./sandbox/environment.ts";
export type { SandboxDetails, SandboxMetadata } from "./sandbox/metadata.ts";
export type { ConnectOptions, SandboxOptions, SecretConfig, VolumeMountConfig } from "./sandbox/options.ts";
export { Sandbox } from "./sandbox/sandbox.ts";
export type { SshAccess } from "./sandbox/ssh-access.ts";
export { VsCode, type VsCodeOptions } from "./sandbox/vscode.ts";

/** The id of a volume. */
export type VolumeId = string;
/** The slug of a volume. */
export type VolumeSlug = string;
/** The id of a snapshot. */
export type SnapshotId = string;
/** The slug of a snapshot. */
export type SnapshotSlug = string;
