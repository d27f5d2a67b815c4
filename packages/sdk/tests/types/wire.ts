// This file is never run. It fails to compile when the SDK's public types and the shared schemas drift apart.
import type {
  CreateVolumeBody,
  DirectoryEntry,
  RpcMethods,
  WireSandbox,
  WalkEntry as WireWalkEntry,
} from "@caisson/protocol";
import type {
  ChildProcessStatus,
  DirEntry,
  ExpandGlobOptions,
  FileInfo,
  OpenOptions,
  SandboxMetadata,
  StorageClass,
  VolumeInit,
  WalkEntry,
  WriteFileOptions,
} from "../../src/index.ts";

type Assert<T extends true> = T;
type Has<Wide, Narrow extends Wide> = Narrow extends Wide ? true : never;
type SameKeys<A, B> = [Exclude<keyof A, keyof B>, Exclude<keyof B, keyof A>] extends [never, never] ? true : false;
type Params<M extends keyof RpcMethods, K extends keyof RpcMethods[M]["params"]> = NonNullable<
  RpcMethods[M]["params"][K]
>;

export type Checks = [
  Assert<SameKeys<FileInfo, RpcMethods["stat"]["result"]>>,
  Assert<SameKeys<ChildProcessStatus, RpcMethods["processWait"]["result"]>>,
  Assert<SameKeys<DirEntry, DirectoryEntry>>,
  Assert<SameKeys<WalkEntry, WireWalkEntry>>,
  Assert<SameKeys<Omit<OpenOptions, "signal">, Params<"open", "options">>>,
  Assert<SameKeys<Omit<WriteFileOptions, "signal">, Params<"writeFile", "options">>>,
  Assert<SameKeys<Omit<ExpandGlobOptions, "signal">, Omit<RpcMethods["expandGlob"]["params"], "glob" | "escapeNames">>>,
  Assert<SameKeys<Omit<VolumeInit, "storageClass">, Omit<CreateVolumeBody, "storage_class">>>,
  Assert<Has<NonNullable<CreateVolumeBody["storage_class"]>, StorageClass>>,
  Assert<SameKeys<Omit<SandboxMetadata, "stopAt" | "node">, WireSandbox>>,
  Assert<Has<SandboxMetadata["status"], WireSandbox["status"]>>,
];
