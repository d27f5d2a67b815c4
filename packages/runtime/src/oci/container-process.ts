import { type SpawnedProgram, spawnProgram } from "@caisson/linux";

/**
 * A limit of 0 keeps the kernel from writing core files, but not from starting the host's handler where `core_pattern` names one, as root and for
 * every crash in a sandbox. 1 byte keeps it from both (do_coredump in fs/coredump.c of Linux): it is too little for a file, and means "no" to a handler.
 */
const CORE_LIMIT = "--core=1:1";

/**
 * Waits for four lines (number of processes or nothing, bundle, log, container id) and becomes the OCI runtime, which keeps its process id and its cgroup. The runtime is
 * the script's name and what precedes its `run` are the script's arguments. It makes a file for a moment, which stays when it is killed then: in the
 * bundle, which is removed, and not in `/tmp`.
 * The number is what programs see as their limit (`ulimit -u`); shells name it by one letter or the other. Set here, the limits are handed down; a runtime
 * that sets them on the sandbox's process from outside would need CAP_SYS_RESOURCE.
 */
const SCRIPT = `
IFS= read -r processes && IFS= read -r bundle && IFS= read -r log && IFS= read -r id || exit 1
[ -z "$processes" ] || ulimit -u "$processes" 2>/dev/null || ulimit -p "$processes" || exit 1
export _LIBCONTAINER_STATEDIR="$bundle"
exec "$0" "$@" run --bundle "$bundle" --pid-file "$bundle/pid" "$id" </dev/null >>"$log" 2>&1
`;

/** The container that the process is to become. */
export interface Container {
  /** Null: as many as this process may have. */
  readonly processesMax: number | null;
  readonly bundlePath: string;
  readonly logPath: string;
  readonly id: string;
}

/**
 * A waiting shell that becomes the OCI runtime of one sandbox. It is started, and put into the sandbox's cgroup, ahead of time: the kernel
 * lets a process change its cgroup only after a grace period of 10 to 25 ms, in which a sandbox would wait.
 */
export class ContainerProcess implements AsyncDisposable {
  readonly #program: SpawnedProgram;
  /** Resolves when the process is gone, as a shell or as the OCI runtime, to its exit code if it had one. Never rejects. */
  readonly exited: Promise<number | null>;
  #hasExited = false;

  private constructor(program: SpawnedProgram) {
    this.#program = program;
    this.exited = program.ended.then(({ exitCode }) => {
      this.#hasExited = true;
      return exitCode;
    });
    // A process that was killed cannot read its lines; its end says so already.
    program.stdin?.on("error", () => undefined);
    void this.exited.then(() => program.stdin?.destroy());
  }

  static prepare(runtimePath: string, runtimeArgs: readonly string[]): ContainerProcess {
    const command = [CORE_LIMIT, "--", "sh", "-c", SCRIPT, runtimePath, ...runtimeArgs];
    return new ContainerProcess(spawnProgram("prlimit", command, { input: "pipe" }));
  }

  get pid(): number {
    return this.#program.pid;
  }

  get hasExited(): boolean {
    return this.#hasExited;
  }

  start({ processesMax, bundlePath, logPath, id }: Container): void {
    this.#program.stdin?.end(`${processesMax ?? ""}\n${bundlePath}\n${logPath}\n${id}\n`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#program.kill("SIGKILL");
    await this.exited;
  }
}
