import { connect } from "node:net";
import { Duplex } from "node:stream";
import { completeSteps, KeyedLock, type PersistentWork, settleAll, step, UndoStack } from "@caisson/linux";
import { CaissonError } from "@caisson/model";
import type { ExitCause, RunningSandbox, SandboxRuntime } from "@caisson/runtime";
import type { PresentSandbox, SandboxEnd, SandboxSpec, StartedSandbox, TakeNodeEvent } from "../node.ts";
import type { NodeLogger } from "../node-logger.ts";
import type { Pool } from "../pools/pool.ts";
import { SandboxMounts } from "./sandbox-mounts.ts";

/** So many ends are remembered, for a caller that asks again because it has not heard the answer. */
const REMEMBERED_ENDS = 1000;

interface HeldSandbox {
  readonly mounts: SandboxMounts;
  /** What has to be given back; an entry goes when that is done. */
  readonly made: UndoStack;
  readonly starting: AbortController;
  readonly started: Promise<StartedSandbox>;
  running: RunningSandbox | null;
}

export interface HostSandboxesParts {
  readonly runtime: SandboxRuntime;
  readonly persistent: PersistentWork;
  readonly takeEvent: TakeNodeEvent;
  readonly logger: NodeLogger;
}

/** The sandboxes of this host, from the first mount to the last unmount. */
export class HostSandboxes {
  readonly #runtime: SandboxRuntime;
  readonly #persistent: PersistentWork;
  readonly #takeEvent: TakeNodeEvent;
  readonly #logger: NodeLogger;
  readonly #byId = new Map<string, HeldSandbox>();
  readonly #ends = new Map<string, SandboxEnd>();
  readonly #ending = new KeyedLock();

  constructor({ runtime, persistent, takeEvent, logger }: HostSandboxesParts) {
    this.#runtime = runtime;
    this.#persistent = persistent;
    this.#takeEvent = takeEvent;
    this.#logger = logger;
  }

  /** As `Node.startSandbox`, from the pool of its region. */
  start(spec: SandboxSpec, pool: Pool, signal: AbortSignal): Promise<StartedSandbox> {
    const known = this.#byId.get(spec.id);
    if (known !== undefined) return known.started;
    const starting = new AbortController();
    const { promise: started, resolve, reject } = Promise.withResolvers<StartedSandbox>();
    const mounts = new SandboxMounts(spec, pool);
    const held: HeldSandbox = { mounts, made: new UndoStack(), starting, started, running: null };
    this.#byId.set(spec.id, held);
    this.#start(spec, held, AbortSignal.any([signal, starting.signal])).then(resolve, reject);
    return started;
  }

  /**
   * As `Node.stopSandbox`. A start that is under way is broken off.
   *
   * What nobody but this host misses follows the answer, in the background: scratch disk, network, cgroup, files. The place comes last, so that what is not
   * given back yet takes the room of a further sandbox. A crash leaves all of it to the kernel and to the next opening.
   */
  stop(id: string): Promise<SandboxEnd> {
    return this.#ending.run(id, async () => {
      const held = this.#byId.get(id);
      if (held === undefined) return this.#ends.get(id) ?? { damages: [] };
      held.starting.abort(new CaissonError("SANDBOX_START_FAILED", "The sandbox was ended before it was ready"));
      await held.started.catch(() => {});
      await held.made[Symbol.asyncDispose]();
      const end = { damages: [...held.mounts.damages] };
      this.#remember(id, end);
      this.#byId.delete(id);
      void completeSteps({ persistent: this.#persistent }, "sandbox-give-back", id, {
        scratch: () => held.mounts.discardScratch(),
        place: () => this.#runtime.release(id),
      });
      return end;
    });
  }

  list(): Promise<readonly PresentSandbox[]> {
    return Promise.all([...this.#byId.keys()].map(async (id) => ({ id, ownEnd: await this.ownEnd(id) })));
  }

  async ownEnd(id: string): Promise<ExitCause | null> {
    return (await this.#byId.get(id)?.running?.ownEnd()) ?? null;
  }

  openAgent(id: string): Duplex {
    const running = this.#byId.get(id)?.running;
    const none = (): Duplex => new Duplex({ read() {} }).destroy(notRunning(id));
    const connection = running == null ? none() : connect(running.agentSocketPath);
    // Its end says all that a caller who listens for nothing else has to know.
    return connection.on("error", () => {});
  }

  async connectInside(id: string, port: number, address?: string): Promise<Duplex> {
    const running = this.#byId.get(id)?.running;
    if (running == null) throw notRunning(id);
    return address === undefined ? running.connect(port) : running.connect(port, address);
  }

  async #start(spec: SandboxSpec, held: HeldSandbox, signal: AbortSignal): Promise<StartedSandbox> {
    const { id, hostname, limits, env, egress } = spec;
    const { mounts, made } = held;
    const startedMs = performance.now();
    made.defer(() => step("sandbox-start.mount.undo", () => mounts.release()));
    const mounted = await step("sandbox-start.mount", () => mounts.mount());
    const mountMs = performance.now() - startedMs;
    signal.throwIfAborted();
    made.defer(() =>
      step("sandbox-start.run.undo", async () => {
        mounts.letEnd();
        await settleAll([this.#runtime.stop(id), mounts.trim()]);
      }),
    );
    const running = await step("sandbox-start.run", () =>
      this.#runtime.start(
        {
          id,
          ...mounted,
          limits,
          env,
          ...(hostname === null ? {} : { hostname }),
          ...(egress === null ? {} : { egress }),
        },
        signal,
      ),
    );
    held.running = running;
    void running.exited.then((cause) => this.#tellOfExit(id, cause));
    return { trace: [{ step: "mount", durationMs: mountMs }, ...running.trace] };
  }

  async #tellOfExit(sandboxId: string, cause: ExitCause): Promise<void> {
    try {
      await this.#takeEvent({ kind: "sandbox-exited", sandboxId, cause });
    } catch (error) {
      this.#logger.error({ err: error, sandboxId }, "cannot tell that a sandbox has ended by itself");
    }
  }

  #remember(id: string, end: SandboxEnd): void {
    this.#ends.set(id, end);
    const [oldest] = this.#ends.keys();
    if (this.#ends.size > REMEMBERED_ENDS && oldest !== undefined) this.#ends.delete(oldest);
  }
}

function notRunning(id: string): CaissonError {
  return new CaissonError(
    "SANDBOX_NOT_FOUND",
    `There is no running sandbox ${JSON.stringify(id.slice(0, 64))} on this host`,
  );
}
