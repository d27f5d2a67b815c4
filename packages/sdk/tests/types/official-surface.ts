// This file is never run. It compiles against the types of @deno/sandbox as well as against ours: see package.test.ts.
import type {
  BaseClientOptions,
  ChildProcess,
  ChildProcessOutput,
  ChildProcessStatus,
  CodeExtension,
  ConnectOptions,
  Cursor,
  DenoProcess,
  DenoRepl,
  DenoReplOptions,
  DenoRunOptions,
  DirEntry,
  ExpandGlobOptions,
  FileInfo,
  FsFile,
  KillSignalListener,
  ListOptions,
  Memory,
  MkdirOptions,
  OpenOptions,
  PaginatedList,
  ReadFileOptions,
  Region,
  RemoveOptions,
  RequestInit,
  SandboxDeno,
  SandboxEnv,
  Sandboxes,
  SandboxesListOptions,
  SandboxFs,
  SandboxMetadata,
  SandboxOptions,
  SecretConfig,
  Signal,
  SnapshotId,
  SnapshotInit,
  SnapshotListOptions,
  SnapshotSlug,
  Snapshots,
  SpawnOptions,
  VolumeId,
  VolumeInit,
  VolumeListOptions,
  VolumeSlug,
  Volumes,
  VsCode,
  VsCodeOptions,
  WalkEntry,
  WalkOptions,
  WriteFileOptions,
} from "@deno/sandbox";
import {
  type Client,
  KillController,
  KillSignal,
  type Sandbox,
  SandboxSdkError,
  Snapshot,
  Volume,
} from "@deno/sandbox";

export type Unused = [
  Cursor,
  SnapshotId,
  SnapshotSlug,
  VolumeId,
  VolumeSlug,
  MkdirOptions,
  RemoveOptions,
  ReadFileOptions,
];

/** Options, as callers write them down. */
export const base: BaseClientOptions = { token: "ddo_x", org: "acme", apiEndpoint: "http://localhost" };
const region: Region = "ams";
const memory: Memory = "1GiB";
const secrets: Record<string, SecretConfig> = { KEY: { hosts: ["example.com"], value: "v" } };
export const sandboxOptions: SandboxOptions = {
  ...base,
  region,
  memory,
  secrets,
  timeout: "5m",
  labels: { a: "b" },
  root: "root",
  volumes: { "/data": "cache" },
  allowNet: [],
  env: {},
  ssh: true,
  port: 80,
  debug: false,
  sandboxEndpoint: (name: string) => `http://${name}.localhost`,
};
export const connectOptions: ConnectOptions = { ...base, sandboxEndpoint: "http://localhost", debug: true };
export const volumeInit: VolumeInit = { slug: "ab", region: "ord", capacity: "10GB", from: "builtin:debian-13" };
export const snapshotInit: SnapshotInit = { slug: "ab" };
const list: ListOptions = { cursor: "c", limit: 10 };
export const volumeList: VolumeListOptions = { ...list, search: "x" };
export const snapshotList: SnapshotListOptions = { ...list, search: "x" };
export const sandboxList: SandboxesListOptions = { labels: { a: "b" } };
export const walk: WalkOptions = { maxDepth: 1, exts: [".ts"], match: [/a/], skip: [/b/], followSymlinks: true };
export const glob: ExpandGlobOptions = {
  root: "/",
  exclude: ["a"],
  globstar: true,
  extended: false,
  caseInsensitive: true,
};
export const open: OpenOptions = { read: true, write: true, append: false, truncate: true, create: true, mode: 0o600 };
export const write: WriteFileOptions = { append: true, signal: AbortSignal.timeout(1), mode: 0o600 };
const spawn: SpawnOptions = { args: ["a"], cwd: new URL("file:///"), clearEnv: true, stdin: "piped", stdout: "null" };
export const denoRun: DenoRunOptions = { entrypoint: "main.ts", watch: ["data"], scriptArgs: ["x"], env: {} };
export const denoRepl: DenoReplOptions = { scriptArgs: [], stdin: "null" };
export const vscodeOptions: VsCodeOptions = { extensions: [], preview: "http://localhost" };
const request: RequestInit = { method: "POST", headers: { a: "b" }, body: "x", redirect: "manual", signal: null };
const extension: CodeExtension = "tsx";
const signal: Signal = "SIGUSR1";

/** Results, as callers read them. */
export async function results(sandbox: Sandbox, client: Client): Promise<unknown[]> {
  const { fs, env, deno }: { fs: SandboxFs; env: SandboxEnv; deno: SandboxDeno } = sandbox;
  const file: FsFile = await fs.open("a", open);
  const info: FileInfo = await file.stat();
  const dates: Date[] = [info.mtime, info.atime, info.birthtime, info.ctime];
  const entries: DirEntry[] = [];
  for await (const entry of fs.readDir(new URL("file:///"))) entries.push(entry);
  const walked: AsyncIterableIterator<WalkEntry> = fs.walk("/", walk);
  const value: string | undefined = await env.get("A");
  const all: Record<string, string> = await env.toObject();
  const child: ChildProcess = await sandbox.spawn("a", spawn);
  const input: WritableStream<Uint8Array<ArrayBuffer>> | null = child.stdin;
  const output: ChildProcessOutput = await child.output();
  const bytes: Uint8Array | null = output.stdout;
  const status: ChildProcessStatus = output.status;
  const name: Signal | null = status.signal;
  await child.kill(signal);
  const program: DenoProcess = await deno.run({ code: "1", extension });
  program.addEventListener("restart", () => undefined);
  const ready: boolean = await program.httpReady;
  const response: Response = await program.fetch("http://localhost", request);
  const repl: DenoRepl = await deno.repl();
  const sum: number = await repl.call<number>("add", 1, 2);
  const evaluated: { total: number } = await deno.eval<{ total: number }>("x");
  const text: string = await sandbox.sh`a ${1}`.sudo().cwd("/").env("A", "1").noThrow().stderr("null").text();
  const { stdoutText }: { stdoutText: string | null } = await sandbox.sh`a`.signal(new KillController().signal);
  const listener: KillSignalListener = (received) => void received;
  new KillController().signal.addListener(listener);
  const isSignal: boolean = new KillController().signal instanceof KillSignal;
  const end: Date = await sandbox.extendTimeout("5m");
  const url: string = await sandbox.exposeHttp({ port: 80 });
  const { hostname, username }: { hostname: string; username: string } = await sandbox.exposeSsh();
  const editor: VsCode = await sandbox.exposeVscode("/home/app", vscodeOptions);
  const volumes: Volumes = client.volumes;
  const snapshots: Snapshots = client.snapshots;
  const sandboxes: Sandboxes = client.sandboxes;
  const page: PaginatedList<Volume> = await volumes.list(volumeList);
  const next: PaginatedList<Volume> | null = await page.getNextPage();
  const volume: Volume | null = await Volume.get("a", base);
  const created: Snapshot = await Snapshot.create("a", { ...snapshotInit, ...base });
  const found: Snapshot | null = await snapshots.get("a");
  const listed: SandboxMetadata[] = await sandboxes.list(sandboxList);
  const started: Date | undefined = listed[0]?.createdAt;
  const isOurs: boolean = new Error() instanceof SandboxSdkError;
  return [
    dates,
    entries,
    walked,
    value,
    all,
    input,
    bytes,
    name,
    ready,
    response,
    sum,
    evaluated,
    text,
    stdoutText,
    isSignal,
    end,
    url,
    hostname,
    username,
    editor.url,
    next,
    volume?.baseSnapshot?.slug,
    created.volume.id,
    found?.flattenedSize,
    started,
    isOurs,
  ];
}
