import { type ChildProcess, spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { CaissonError } from "@caisson/model";

export interface CephPool {
  /** Path of the cluster's `ceph.conf`. */
  readonly conf: string;
  /** Without `client.`. */
  readonly user: string;
  readonly pool: string;
  readonly namespace?: string;
}

/** Something changed since a snapshot: what, and whether there is data. */
export type DiffExtent = readonly [offset: number, length: number, isData: boolean];

export interface RbdSnapshot {
  readonly name: string;
  readonly sizeBytes: number;
  /** Images that are clones of it. */
  readonly childCount: number;
}

export interface RbdImage {
  readonly sizeBytes: number;
  /** Oldest first. */
  readonly snapshots: readonly RbdSnapshot[];
  readonly parent: { readonly image: string; readonly snapshot: string } | null;
}

/** What the cluster or its library refused, with the name of the error number. */
export class RbdError extends Error {
  readonly code: string;

  constructor(op: string, { errno, message }: HelperError) {
    super(`${op}: ${message}`);
    this.name = "RbdError";
    this.code = errno ?? "EIO";
  }
}

interface HelperError {
  readonly errno: string | null;
  readonly message: string;
}

interface Header {
  readonly id: number;
  readonly result?: unknown;
  readonly error?: HelperError;
  readonly isAlive?: boolean;
}

interface Answer {
  readonly result: unknown;
  readonly payload: Buffer;
}

interface Pending {
  readonly op: string;
  readonly resolve: (answer: Answer) => void;
  readonly reject: (error: unknown) => void;
  readonly deadline: NodeJS.Timeout;
}

export interface RbdClientOptions extends CephPool {
  /** A call that hears nothing for so long has failed. */
  readonly answerTimeoutMs: number;
  /** The same for connecting. Default: 8 seconds. */
  readonly connectTimeoutMs?: number;
}

const HELPER = fileURLToPath(new URL("./rbd-helper.py", import.meta.url));
/** Debian's, which has the libraries. */
const PYTHON = "/usr/bin/python3";
const CONNECT_TIMEOUT_MS = 8000;
/** What the libraries need beyond their own deadline to say so. */
const GRACE_MS = 3000;
const ERROR_CHARACTERS = 2000;
const FRAME_BYTES = 8;

/**
 * A connection to a cluster, in a process of its own (`rbd-helper.py`), whose libraries block and cannot be interrupted. A call that hears nothing for too
 * long ends that process, and with it all other calls; the owner then opens another connection. Long ones are heard of as long as the cluster answers.
 */
export class RbdClient {
  readonly #process: ChildProcess;
  readonly #options: RbdClientOptions;
  readonly #pending = new Map<number, Pending>();
  readonly #ended: Promise<void>;
  #nextId = 1;
  /** What has arrived of the next answers, put together only when one is whole. */
  #parts: Buffer[] = [];
  #partBytes = 0;
  #wantedBytes = FRAME_BYTES;
  #errorOutput = "";
  #failure: Error | null = null;
  /** As the cluster names this client; for the list of those that are refused. */
  address = "";
  fsid = "";

  private constructor(options: RbdClientOptions) {
    this.#options = options;
    const seconds = String(Math.ceil(options.answerTimeoutMs / 1000));
    const configuration = {
      client_mount_timeout: String(Math.ceil((options.connectTimeoutMs ?? CONNECT_TIMEOUT_MS) / 1000)),
      rados_mon_op_timeout: seconds,
      rados_osd_op_timeout: seconds,
      // Of snapshots that are not protected, also where the cluster still admits clients that know no such clones.
      rbd_default_clone_format: "2",
    };
    const { conf, user, pool, namespace = "" } = options;
    this.#process = spawn(PYTHON, ["-u", HELPER, JSON.stringify({ conf, user, pool, namespace, configuration })], {
      stdio: ["pipe", "pipe", "pipe"],
      env: { ...process.env, PYTHONDONTWRITEBYTECODE: "1", CEPH_ARGS: "" },
    });
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#ended = promise;
    this.#process.stdout?.on("data", (bytes: Buffer) => this.#take(bytes));
    this.#process.stdin?.on("error", () => undefined);
    this.#process.stderr?.setEncoding("utf8").on("data", (text: string) => {
      this.#errorOutput = (this.#errorOutput + text).slice(-ERROR_CHARACTERS);
    });
    this.#process.on("error", (error) => {
      this.#fail(error);
      resolve();
    });
    this.#process.on("close", () => {
      const output = this.#errorOutput.trim();
      this.#fail(
        new RbdError("connection", {
          errno: "EPIPE",
          message: `the helper ended${output === "" ? "" : `: ${output}`}`,
        }),
      );
      resolve();
    });
  }

  /** `DISK_UNAVAILABLE`, with what to do, where the pool cannot be used. */
  static async open(options: RbdClientOptions): Promise<RbdClient> {
    const client = new RbdClient(options);
    try {
      const { result } = await client.#wait("connect", 0, (options.connectTimeoutMs ?? CONNECT_TIMEOUT_MS) + GRACE_MS);
      const { address, fsid } = result as { address: string; fsid: string };
      client.address = address;
      client.fsid = fsid;
      return client;
    } catch (error) {
      await client.close();
      throw new CaissonError("DISK_UNAVAILABLE", describeFailure(options, error), { cause: error });
    }
  }

  get isOpen(): boolean {
    return this.#failure === null;
  }

  rows(prefix: string): Promise<Readonly<Record<string, string>>> {
    return this.#call("rows", { prefix });
  }

  row(key: string): Promise<string | null> {
    return this.#call("row", { key });
  }

  /** Whether the value was the expected one, and so was replaced. `null`: no such key. */
  replaceRow(key: string, expected: string | null, value: string | null): Promise<boolean> {
    return this.#call("replace_row", { key, expected, value });
  }

  images(): Promise<readonly string[]> {
    return this.#call("images", {});
  }

  trash(): Promise<readonly { readonly id: string; readonly name: string }[]> {
    return this.#call("trash", {});
  }

  create(image: string, sizeBytes: number): Promise<void> {
    return this.#call("create", { image, sizeBytes });
  }

  clone(parent: string, snapshot: string, image: string, sizeBytes: number): Promise<void> {
    return this.#call("clone", { parent, snapshot, image, sizeBytes });
  }

  resize(image: string, sizeBytes: number): Promise<void> {
    return this.#call("resize", { image, sizeBytes });
  }

  /** One that is there already is success. */
  snapshot(image: string, snapshot: string): Promise<void> {
    return this.#call("snapshot", { image, snapshot });
  }

  removeSnapshot(image: string, imageId: string | null, snapshot: string): Promise<void> {
    return this.#call("remove_snapshot", { image, imageId, snapshot });
  }

  /** Absent is success. */
  remove(image: string): Promise<void> {
    return this.#call("remove", { image });
  }

  trashMove(image: string): Promise<void> {
    return this.#call("trash_move", { image });
  }

  trashRemove(imageId: string): Promise<void> {
    return this.#call("trash_remove", { imageId });
  }

  /** `imageId`: the cluster's, for one in the trash. `null`: no such image. */
  info(image: string, imageId: string | null = null): Promise<RbdImage | null> {
    return this.#call("info", { image, imageId });
  }

  diff(options: {
    readonly image: string;
    readonly imageId: string | null;
    readonly since: string | null;
    readonly snapshot: string | null;
    /** Data of parents counts, too. */
    readonly hasParent: boolean;
    /** Tells whole objects that hold anything, and reads none. */
    readonly isWhole: boolean;
  }): Promise<readonly DiffExtent[]> {
    return this.#call("diff", options);
  }

  /** Fewer bytes at the end. */
  async read(image: string, snapshot: string | null, offset: number, length: number): Promise<Buffer> {
    return (await this.#send("read", { image, snapshot, offset, length })).payload;
  }

  async write(
    image: string,
    pieces: readonly { readonly offset: number; readonly bytes: Uint8Array }[],
  ): Promise<void> {
    const extents = pieces.map(({ offset, bytes }) => [offset, bytes.length]);
    await this.#send("write", { image, extents }, Buffer.concat(pieces.map(({ bytes }) => bytes)));
  }

  /** Addresses of the clients that have the image open, also those that only read a snapshot of it: QEMU opens all images as if it wrote. */
  watchers(image: string, imageId: string | null = null): Promise<readonly string[]> {
    return this.#call("watchers", { image, imageId });
  }

  /** Addresses of the clients that have the image's exclusive lock, which all who write take first. */
  lockers(image: string): Promise<readonly string[]> {
    return this.#call("lockers", { image });
  }

  blocklist(addresses: readonly string[], seconds: number): Promise<void> {
    return this.#call("blocklist", { addresses, seconds });
  }

  breakLocks(image: string, addresses: readonly string[]): Promise<void> {
    return this.#call("break_locks", { image, addresses });
  }

  space(): Promise<{
    readonly storedBytes: number;
    readonly freeBytes: number;
    readonly quotaBytes: number | null;
  }> {
    return this.#call("space", {});
  }

  async close(): Promise<void> {
    this.#fail(new CaissonError("SHUTTING_DOWN", "The connection to the cluster is closed"));
    this.#process.stdin?.end();
    this.#process.kill("SIGKILL");
    await this.#ended;
  }

  async #call<T>(op: string, args: Readonly<Record<string, unknown>>): Promise<T> {
    return (await this.#send(op, args)).result as T;
  }

  async #send(op: string, args: Readonly<Record<string, unknown>>, payload: Buffer = Buffer.alloc(0)): Promise<Answer> {
    if (this.#failure !== null) throw this.#failure;
    const id = this.#nextId++;
    const header = Buffer.from(JSON.stringify({ id, op, arguments: args }));
    const lengths = Buffer.alloc(FRAME_BYTES);
    lengths.writeUInt32BE(header.length, 0);
    lengths.writeUInt32BE(payload.length, 4);
    // The library's own deadline comes first, so that the other calls live on.
    const answer = this.#wait(op, id, this.#options.answerTimeoutMs + GRACE_MS);
    this.#process.stdin?.write(Buffer.concat([lengths, header, payload]));
    return answer;
  }

  #wait(op: string, id: number, timeoutMs: number): Promise<Answer> {
    const { promise, resolve, reject } = Promise.withResolvers<Answer>();
    const deadline = setTimeout(() => {
      this.#fail(
        new RbdError(op, { errno: "ETIMEDOUT", message: `no answer within ${Math.round(timeoutMs / 1000)} s` }),
      );
      this.#process.kill("SIGKILL");
    }, timeoutMs);
    this.#pending.set(id, { op, resolve, reject, deadline });
    return promise;
  }

  #take(bytes: Buffer): void {
    this.#parts.push(bytes);
    this.#partBytes += bytes.length;
    while (this.#partBytes >= this.#wantedBytes) {
      const input = this.#parts.length === 1 ? (this.#parts[0] ?? bytes) : Buffer.concat(this.#parts);
      this.#parts = [input];
      this.#wantedBytes = FRAME_BYTES;
      if (input.length < FRAME_BYTES) return;
      const headerEnd = FRAME_BYTES + input.readUInt32BE(0);
      const end = headerEnd + input.readUInt32BE(4);
      this.#wantedBytes = end;
      if (input.length < end) return;
      this.#parts = [input.subarray(end)];
      this.#partBytes = input.length - end;
      this.#wantedBytes = FRAME_BYTES;
      this.#answer(
        JSON.parse(input.toString("utf8", FRAME_BYTES, headerEnd)) as Header,
        input.subarray(headerEnd, end),
      );
    }
  }

  #answer({ id, result, error, isAlive = false }: Header, payload: Buffer): void {
    const pending = this.#pending.get(id);
    if (pending === undefined) return;
    if (isAlive) {
      pending.deadline.refresh();
      return;
    }
    clearTimeout(pending.deadline);
    this.#pending.delete(id);
    if (error === undefined) pending.resolve({ result, payload });
    else pending.reject(new RbdError(pending.op, error));
  }

  #fail(error: Error): void {
    this.#failure ??= error;
    for (const { reject, deadline } of this.#pending.values()) {
      clearTimeout(deadline);
      reject(this.#failure);
    }
    this.#pending.clear();
  }
}

/** Why a pool cannot be used, with what to do. */
export function describeFailure({ conf, user, pool, namespace }: CephPool, error: unknown): string {
  const cannot = `Cannot use the Ceph pool ${poolName({ pool, ...(namespace === undefined ? {} : { namespace }) })} as client.${user} of ${conf}`;
  const text = error instanceof Error ? error.message : String(error);
  const code = error instanceof RbdError ? error.code : (error as NodeJS.ErrnoException).code;
  if (code === "ENOENT" && text.includes("no pool"))
    return `${cannot}: the cluster has no pool ${pool}. Make it with "ceph osd pool create ${pool}" and "rbd pool init ${pool}", or name another one`;
  if (code === "ENOENT" && text.includes("no namespace"))
    return `${cannot}: the pool has no such namespace. Make it with "rbd namespace create ${pool}/${namespace}", or name another one`;
  if (text.includes("No module named"))
    return `${cannot}: Python lacks the libraries (${text.trim().split("\n").at(-1)}). Install them: apt-get install python3-rados python3-rbd`;
  if (code === "ENOENT" && error instanceof RbdError && text.includes("read_file"))
    return `${cannot}: there is no such file or it cannot be read. Copy the cluster's ceph.conf there`;
  if (code === "ENOENT" && !(error instanceof RbdError))
    return `${cannot}: ${PYTHON} is missing. Install it: apt-get install python3 python3-rados python3-rbd`;
  if (code === "ENOENT" || code === "EINVAL")
    return `${cannot}: ${text}. Check that the file is the cluster's ceph.conf and that the keyring that it names is there and has the key of client.${user}`;
  if (code === "EACCES" || code === "EPERM")
    return `${cannot}: the cluster refuses the key, or the key may not do this. Give it what RBD needs: ceph auth caps client.${user} mon 'profile rbd' osd 'profile rbd pool=${pool}' mgr 'profile rbd pool=${pool}'`;
  if (code === "ETIMEDOUT")
    return `${cannot}: the cluster does not answer. Check "ceph -s", the network between this host and the monitors and OSDs, and mon_host in that file`;
  if (code === "ESHUTDOWN" || code === "ENOTCONN")
    return `${cannot}: the cluster has shut this client out, because another node has taken over what it had. Start the server of this node again`;
  return `${cannot}: ${text}. Check "ceph -s"`;
}

export function poolName({ pool, namespace }: Pick<CephPool, "pool" | "namespace">): string {
  return namespace === undefined ? pool : `${pool}/${namespace}`;
}
