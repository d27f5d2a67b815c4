import type { SandboxRecord } from "@caisson/database";
import { CaissonError } from "@caisson/model";
import type { RunningSandbox } from "@caisson/runtime";

/** Why a sandbox ended; recorded on its row. */
export type StopReason =
  | "killed"
  | "timeout"
  | "primary-left"
  | "exited"
  | "start-failed"
  | "server-stopped"
  | "server-restart";

/** A sandbox that runs on this host, with everything of it that only memory knows. */
export interface LiveSandbox {
  record: SandboxRecord;
  readonly running: RunningSandbox;
  /** Gives back volumes, root and scratch disk, after the runtime has stopped. */
  readonly release: () => Promise<void>;
  /** A session ends with its primary connection, a duration at its time. */
  readonly mode: "session" | "duration";
  /** A session that was extended outlives its primary until then; 0 when it was not. Epoch milliseconds. */
  keepUntilMs: number;
  /** Ends a duration sandbox, or a session whose primary left during an extension. */
  timer: NodeJS.Timeout | null;
  /** Set once the end has begun. */
  ending: Promise<void> | null;
  /** Resolves when the end is over and the volumes are free. */
  readonly ended: Promise<void>;
  readonly markEnded: () => void;
}

/** The sandboxes that run on this host, by id. */
export class LiveSandboxes {
  readonly #byId = new Map<string, LiveSandbox>();
  /** Ends under way, also of sandboxes that failed to start, for those who wait for a volume. */
  readonly #endings = new Map<string, Promise<void>>();

  #isRefusing = false;

  /** Throws `SHUTTING_DOWN` once the server ends, so that a create under way is undone. */
  add(sandbox: LiveSandbox): void {
    this.requireOpen();
    this.#byId.set(sandbox.record.id, sandbox);
  }

  refuseMore(): void {
    this.#isRefusing = true;
  }

  /** Throws `SHUTTING_DOWN` once the server ends. */
  requireOpen(): void {
    if (this.#isRefusing)
      throw new CaissonError("SHUTTING_DOWN", "The server is shutting down: create the sandbox when it is up again");
  }

  remove(id: string): void {
    this.#byId.delete(id);
  }

  get(id: string): LiveSandbox | undefined {
    return this.#byId.get(id);
  }

  all(): readonly LiveSandbox[] {
    return [...this.#byId.values()];
  }

  /** Makes an end known until it is over. */
  trackEnding(id: string, ending: Promise<void>): void {
    this.#endings.set(id, ending);
    const forget = () => this.#endings.delete(id);
    ending.then(forget, forget);
  }

  ending(id: string): Promise<void> | undefined {
    return this.#endings.get(id);
  }
}
