import type { SandboxRecord } from "@caisson/database";
import { CaissonError, type StopReason } from "@caisson/model";
import type { ExitCause } from "@caisson/node";

/** A sandbox that runs, with everything of it that only memory knows. */
export interface LiveSandbox {
  record: SandboxRecord;
  /** Resolves when its first process is gone, for whatever reason. */
  readonly exited: Promise<ExitCause>;
  readonly markExited: (cause: ExitCause) => void;
  /** The volumes that it holds. */
  readonly volumeIds: readonly string[];
  /** Ends the processes and gives back volumes, root and scratch disk. After a failure it goes on where it stopped. */
  readonly release: () => Promise<void>;
  /** What went wrong with its volumes, known when its end is over: sentences for people. */
  damages: readonly string[];
  /** A session ends with its primary connection, a duration at its time. */
  readonly mode: "session" | "duration";
  /** A session that was extended outlives its primary until then; 0 when it was not. Epoch milliseconds. */
  keepUntilMs: number;
  /** Ends a duration sandbox, or a session whose primary left during an extension. */
  timer: NodeJS.Timeout | null;
  /** Set once the end has begun: resolves to true when it is over, and to false when the server closes before. */
  ending: Promise<boolean> | null;
  /** Resolves when the end is over and the volumes are free. */
  readonly ended: Promise<void>;
  readonly markEnded: () => void;
}

/** Ends a creation; carried by its signal. */
export class CreationEnded extends CaissonError {
  readonly reason: StopReason;

  constructor(reason: StopReason) {
    super(
      reason === "server-stopped" ? "SHUTTING_DOWN" : "SANDBOX_START_FAILED",
      `The sandbox was ended before it was ready: ${reason}`,
    );
    this.name = "CreationEnded";
    this.reason = reason;
  }
}

interface Creation {
  readonly controller: AbortController;
  readonly settled: Promise<unknown>;
  /** Of a first process that was gone before the sandbox was live, by the node that said so. */
  readonly exitCauses: Map<string, ExitCause>;
}

/** The sandboxes of all nodes, by id: those being created, those that run, and those that end. */
export class LiveSandboxes {
  readonly #creations = new Map<string, Creation>();
  readonly #byId = new Map<string, LiveSandbox>();
  /** Ends under way, also of sandboxes that failed to start, for those who wait for a volume. */
  readonly #endings = new Map<string, Promise<boolean>>();

  #isRefusing = false;

  /** Runs a creation that `cancel` can end. Throws `SHUTTING_DOWN` once the server ends. */
  async create<T>(id: string, run: (signal: AbortSignal) => Promise<T>): Promise<T> {
    if (this.#isRefusing)
      throw new CaissonError("SHUTTING_DOWN", "The server is shutting down: create the sandbox when it is up again");
    const controller = new AbortController();
    const creating = run(controller.signal);
    this.#creations.set(id, { controller, settled: creating.catch(() => {}), exitCauses: new Map() });
    try {
      return await creating;
    } finally {
      this.#creations.delete(id);
    }
  }

  isBeingCreated(id: string): boolean {
    return this.#creations.has(id);
  }

  /** Whether it is being created, runs, or ends. */
  isKnown(id: string): boolean {
    return this.#creations.has(id) || this.#byId.has(id) || this.#endings.has(id);
  }

  /** Those that are being created, run, or end. */
  knownIds(): ReadonlySet<string> {
    return new Set([...this.#creations.keys(), ...this.#byId.keys(), ...this.#endings.keys()]);
  }

  /** Ends the creation of a sandbox, and resolves when it is undone, or has become a live sandbox all the same. */
  async cancel(id: string, reason: StopReason): Promise<void> {
    const creation = this.#creations.get(id);
    creation?.controller.abort(new CreationEnded(reason));
    await creation?.settled;
  }

  /** Lets no more begin, and ends those that are being created. Resolves when each is undone or has become live. */
  async refuseMore(): Promise<void> {
    this.#isRefusing = true;
    await Promise.all([...this.#creations.keys()].map((id) => this.cancel(id, "server-stopped")));
  }

  add(sandbox: LiveSandbox): void {
    const { id, owner } = sandbox.record;
    this.#byId.set(id, sandbox);
    const exitCause = this.#creations.get(id)?.exitCauses.get(owner.nodeId);
    if (exitCause !== undefined) sandbox.markExited(exitCause);
  }

  /** The first process of a sandbox of that node is gone, which may be on its way to become live still. */
  markExited(nodeId: string, id: string, cause: ExitCause): void {
    const live = this.#byId.get(id);
    if (live?.record.owner.nodeId === nodeId) live.markExited(cause);
    this.#creations.get(id)?.exitCauses.set(nodeId, cause);
  }

  remove(id: string): void {
    this.#byId.delete(id);
  }

  get(id: string): LiveSandbox | undefined {
    return this.#byId.get(id);
  }

  /** How many sandboxes are in each state. */
  counts(): Readonly<Record<"starting" | "running" | "stopping", number>> {
    const stopping = this.all().filter(({ ending }) => ending !== null).length;
    return { starting: this.#creations.size, running: this.#byId.size - stopping, stopping };
  }

  all(): readonly LiveSandbox[] {
    return [...this.#byId.values()];
  }

  /** Makes an end known until it is over. */
  trackEnding(id: string, ending: Promise<boolean>): void {
    this.#endings.set(id, ending);
    void ending.then(() => this.#endings.delete(id));
  }

  ending(id: string): Promise<boolean> | undefined {
    return this.#endings.get(id);
  }
}
