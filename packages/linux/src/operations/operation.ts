import { isRefusal } from "@caisson/model";
import type { KeyedLock } from "../concurrency/keyed-lock.ts";
import { step } from "./fault.ts";
import type { PersistentWork, WorkDescription } from "./persistent-work.ts";
import { UndoStack } from "./undo-stack.ts";

/** How long a failed operation's caller waits for its undoing. Where that takes longer it goes on in the background. */
const UNDO_WAIT_MS = 2_000;

/** What a step does, and how that is taken back. */
export interface StepWork<T> {
  run(): Promise<T>;
  /** Takes back whatever part of the step there is. Nothing there is success, and it may be repeated. */
  undo?(): Promise<void>;
}

/** One step of an operation. Its fault tag is `<operation>.<name>`, and `<operation>.<name>.undo` on the way back. */
export class Step<T = void> {
  readonly #name: string;
  readonly #work: StepWork<T>;
  #result: { readonly value: T } | null = null;

  constructor(name: string, work: StepWork<T>) {
    this.#name = name;
    this.#work = work;
  }

  /** What the step resolved to, for the steps after it. */
  get value(): T {
    if (this.#result === null) throw new Error(`The step ${this.#name} has not run`);
    return this.#result.value;
  }

  async run(operation: string, made: UndoStack): Promise<void> {
    const { run, undo } = this.#work;
    const tag = `${operation}.${this.#name}`;
    // Before it runs: a step that fails may have done its part.
    if (undo !== undefined) made.defer(() => step(`${tag}.undo`, undo));
    this.#result = { value: await step(tag, run) };
  }
}

/** A change of more than one step that happens as a whole or not at all. */
export interface Operation<T> {
  /** The use case, for example `volume-create`: the first part of the fault tags, and the name in the log. */
  readonly name: string;
  /** What the change is about, for the log. */
  readonly objectId: string;
  /** Held while the operation runs, and again during each try of its undoing. */
  readonly lock?: string;
  /** Ends the operation between two steps, to be undone like any other failure. */
  readonly signal?: AbortSignal;
  /** Recorded before anything is made, so that a restart knows what to undo. */
  readonly intent: {
    /** Resolves to a result when there is nothing left to do, as for a request that repeats an earlier one. A refusal (`isRefusal`) means that nothing was recorded. */
    run(): Promise<T | null>;
    /** Forgets the intent when everything that was made for it is gone. */
    undo(): Promise<void>;
  };
  readonly steps: readonly Pick<Step<unknown>, "run">[];
  readonly commit: {
    /** One transaction, with its audit event. What is to be undone later, as at the end of a sandbox, is on `made`. */
    run(made: UndoStack): Promise<T>;
    /**
     * The first of the undoing, because a commit that failed may have happened all the same: records that it shall not stand. Resolves to the
     * result when it does stand; nothing is undone then.
     */
    withdraw(): Promise<T | null>;
  };
}

/** What operations need. */
export interface OperationContext {
  readonly persistent: PersistentWork;
  readonly locks: KeyedLock;
}

/**
 * Runs an operation: intent, steps, commit. When one of them fails, the commit is withdrawn and the steps are undone in the opposite order, each
 * only when the one before it is: nothing is taken away under something that could not be. An undo that fails is tried again in the
 * background, and by the next start. Throws what failed, when it is undone or the undoing takes long.
 */
export async function runOperation<T>(app: OperationContext, operation: Operation<T>): Promise<T> {
  const { name, intent, steps, commit, signal } = operation;
  const made = new UndoStack();
  let isRefused = false;
  try {
    return await exclusively(app, operation, async () => {
      const earlier = await step(`${name}.intent`, () => intent.run()).catch((error: unknown) => {
        isRefused = isRefusal(error);
        throw error;
      });
      if (earlier !== null) return earlier;
      for (const one of steps) {
        signal?.throwIfAborted();
        await one.run(name, made);
      }
      signal?.throwIfAborted();
      return step(`${name}.commit`, () => commit.run(made));
    });
  } catch (error) {
    if (isRefused) throw error;
    return undoOperation(app, operation, made, error);
  }
}

/** Undoes, and throws the cause; resolves to the result when the commit turns out to stand. */
async function undoOperation<T>(
  app: OperationContext,
  operation: Operation<T>,
  made: UndoStack,
  cause: unknown,
): Promise<T> {
  const { name, objectId, intent, commit } = operation;
  let isWithdrawn = false;
  let standing: T | null = null;
  const undo = async (): Promise<void> => {
    if (!isWithdrawn) {
      standing = await step(`${name}.withdraw`, () => commit.withdraw());
      if (standing !== null) return;
      isWithdrawn = true;
    }
    await made[Symbol.asyncDispose]();
    await step(`${name}.forget`, () => intent.undo());
  };
  const description = { work: `undo ${name}`, objectId, cause: String(cause) };
  await undoSoon(app.persistent, description, () => exclusively(app, operation, undo));
  if (standing !== null) return standing;
  throw cause;
}

/** Undoes, trying again after failures. Resolves when that is done or takes long; then it goes on in the background. */
export async function undoSoon(
  persistent: PersistentWork,
  description: WorkDescription,
  undo: () => Promise<void>,
): Promise<void> {
  await isDoneWithin(persistent.untilDone(description, undo), UNDO_WAIT_MS);
}

function exclusively<T>(
  { locks }: OperationContext,
  { lock }: { readonly lock?: string },
  work: () => Promise<T>,
): Promise<T> {
  return lock === undefined ? work() : locks.run(lock, work);
}

/** Whether the work was done within that time. It goes on if not. */
export async function isDoneWithin(work: Promise<boolean>, waitMs: number): Promise<boolean> {
  const { promise: timeout, resolve } = Promise.withResolvers<false>();
  const timer = setTimeout(resolve, waitMs, false);
  try {
    return await Promise.race([work, timeout]);
  } finally {
    clearTimeout(timer);
  }
}

/**
 * Carries out steps that are never taken back, such as an end: each is tried until it succeeds, then comes the next one. Resolves to true when all
 * are done, and to false when the server closes before. The keys of `steps` are the second part of their fault tags.
 */
export function completeSteps(
  { persistent }: Pick<OperationContext, "persistent">,
  name: string,
  objectId: string,
  steps: Readonly<Record<string, () => Promise<void>>>,
): Promise<boolean> {
  const left = Object.entries(steps);
  return persistent.untilDone({ work: name, objectId }, async () => {
    for (let next = left[0]; next !== undefined; next = left[0]) {
      await step(`${name}.${next[0]}`, next[1]);
      left.shift();
    }
  });
}
