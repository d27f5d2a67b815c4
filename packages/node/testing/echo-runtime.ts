import { once } from "node:events";
import { mkdir, rm, stat, writeFile } from "node:fs/promises";
import { connect, createServer, type Server, type Socket } from "node:net";
import { join } from "node:path";
import type { ExitCause, RunningSandbox, SandboxRuntime, SandboxSpec } from "@caisson/runtime";

interface Echo {
  readonly spec: SandboxSpec;
  readonly server: Server;
  readonly exit: (cause: ExitCause) => void;
}

/**
 * A runtime whose sandboxes are sockets that answer with what they get. So a test sees what a node does around sandboxes, on a host that need
 * not be able to run any.
 */
export class EchoRuntime implements SandboxRuntime {
  readonly name = "echo";
  readonly placeCount = 4;
  readonly placeBound = null;
  readonly #directory: string;
  readonly #echoes = new Map<string, Echo>();
  /** The next starts fail with these, one after the other. */
  readonly failures: Error[] = [];
  /** While it is not null, every release fails with it. */
  releaseFailure: Error | null = null;
  /** Ids of the sandboxes whose release has succeeded. */
  readonly released: string[] = [];

  constructor(directory: string) {
    this.#directory = directory;
  }

  /** Where the data volume of a running sandbox is mounted on the host. */
  mountOf(id: string): string {
    const [mount] = this.#echoes.get(id)?.spec.mounts ?? [];
    if (mount === undefined) throw new Error(`Sandbox ${id} has no mount`);
    return mount.sourcePath;
  }

  /** Ends the sandbox's first process. */
  exit(id: string, cause: ExitCause): void {
    this.#echoes.get(id)?.exit(cause);
  }

  async start(spec: SandboxSpec, signal?: AbortSignal): Promise<RunningSandbox> {
    signal?.throwIfAborted();
    const failure = this.failures.shift();
    if (failure !== undefined) throw failure;
    // What it was given is there, and is a directory.
    for (const { sourcePath, isReadOnly } of spec.mounts) {
      await stat(sourcePath);
      if (!isReadOnly) await writeFile(join(sourcePath, "started"), spec.id);
    }
    await mkdir(this.#directory, { recursive: true });
    const agentSocketPath = join(this.#directory, `${spec.id}.sock`);
    const server = createServer((socket: Socket) => socket.pipe(socket).on("error", () => undefined));
    server.listen(agentSocketPath);
    await once(server, "listening");
    const { promise: exited, resolve } = Promise.withResolvers<ExitCause>();
    let cause: ExitCause | null = null;
    const exit = (first: ExitCause): void => {
      cause ??= first;
      resolve(first);
    };
    this.#echoes.set(spec.id, { spec, server, exit });
    return {
      id: spec.id,
      agentSocketPath,
      async connect(port) {
        if (port !== 80) throw Object.assign(new Error("nothing listens there"), { code: "ECONNREFUSED" });
        return connect(agentSocketPath);
      },
      exited,
      ownEnd: async () => cause,
      trace: [{ step: "echo", durationMs: 1 }],
    };
  }

  async stop(id: string): Promise<void> {
    const echo = this.#echoes.get(id);
    if (echo === undefined) return;
    echo.server.close();
    this.#echoes.delete(id);
    await rm(join(this.#directory, `${id}.sock`), { force: true });
    echo.exit("exited");
  }

  /** It has no places that could run out. */
  async release(id: string): Promise<void> {
    await this.stop(id);
    if (this.releaseFailure !== null) throw this.releaseFailure;
    this.released.push(id);
  }

  async list(): Promise<readonly string[]> {
    return [...this.#echoes.keys()];
  }

  async close(): Promise<void> {
    for (const id of this.#echoes.keys()) await this.stop(id);
  }
}
