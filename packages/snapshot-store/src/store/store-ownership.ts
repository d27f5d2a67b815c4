import { randomBytes } from "node:crypto";
import { step } from "@caisson/linux";
import { CaissonError } from "@caisson/model";
import type { ObjectStore } from "@caisson/objects";
import {
  formerInstallations,
  installationIdOf,
  isReplaced,
  listInstallations,
  putInstallation,
} from "./installations.ts";
import type { StoreMemory } from "./store-memory.ts";

/** A mark that does not change for so long is of a server that has ended. */
const SILENCE_MS = 180_000;
/** How often a server changes its mark. */
const BEAT_MS = 45_000;
/** How long the end of a server waits until its mark says so. */
const END_WAIT_MS = 2_000;
const MARK_BYTES_MAX = 4096;

export interface StoreOwnershipOptions {
  readonly objects: ObjectStore;
  readonly installationKey: Buffer;
  readonly memory: StoreMemory;
  /** Names the place that a server runs at, so that nobody else can run there while it does: what was there before has ended. */
  readonly place: string;
}

/** What accepting a store has found out, for the installation to remember. */
export interface AcceptedStore {
  readonly storeId: string;
  readonly marks: readonly string[];
}

/** Content of a mark. */
interface Mark {
  readonly place: string;
  readonly beat: number;
  readonly isEnded: boolean;
}

/**
 * Whose a store is, so that nobody takes another one for it, and no two servers with the same key delete each other's snapshots. Three kinds of objects, all of them found by lists, say so:
 *
 * - `installations/ID`: which key it was made with. Of several that came at once, the lowest has it, and the others take their object back. A key that comes in the place of another names that one in its object, and both are there until the
 *   other is of no use any more.
 * - `stores/ID`: which store it is. The installation remembers it. From then on a store without it, or with another one, is refused: a disk that is not mounted, an emptied bucket or a changed URL look like that, and replicas or backups
 *   are in the one that was. Only an administrator accepts it.
 * - `owners/MARK`: which run of a server writes. Each run has a mark of its own, which its database knows before the store does. Marks that the database does not know are of a server with another database, such as one that was
 *   copied from this one, and refuse it. A known one is of an earlier run, or of the server that this one was copied from: it is replaced when it has ended. To claim, a server puts its mark and lists again; who then sees another new
 *   mark takes its own back. So of several at once none or one has the store, without conditional writes. A server that has it looks for others at each use: where two marks are there after all, as when one came back while another
 *   server accepted the store, both are refused until an administrator accepts it for one of them.
 */
export class StoreOwnership {
  #installationId: string;
  readonly #objects: ObjectStore;
  readonly #memory: StoreMemory;
  readonly #place: string;
  readonly #mark = randomBytes(8).toString("hex");
  /** Marks that have not ended, as they were first seen. */
  readonly #seen = new Map<string, { readonly beat: number; readonly atMs: number }>();
  #timer: NodeJS.Timeout | null = null;
  #beat = 0;

  constructor({ objects, installationKey, memory, place }: StoreOwnershipOptions) {
    this.#objects = objects;
    this.#memory = memory;
    this.#place = place;
    this.#installationId = installationIdOf(installationKey);
  }

  /** Throws unless the store is the one that the installation's replicas are in, or it has none. Writes nothing into the store. */
  async requireSame(signal: AbortSignal): Promise<void> {
    const [installations, stores] = await this.#identify(signal);
    await this.#requireKnown(installations, stores);
  }

  /** Throws unless `requireOwn` could succeed as things stand, and takes nothing. Writes nothing into the store. */
  async requireFree(signal: AbortSignal): Promise<void> {
    await this.requireSame(signal);
    await this.#findEarlier(await this.#list("owners", signal), signal);
  }

  /** Throws unless this server may write. What nobody has yet becomes its own. */
  async requireOwn(signal: AbortSignal): Promise<void> {
    const [installations, stores] = await this.#identify(signal);
    const isKnown = await this.#requireKnown(installations, stores);
    await this.#takeInstallation(installations, signal);
    if (!isKnown) await this.#memory.remember({ storeId: await this.#nameStore(stores, signal) });
    await this.#claim(signal);
  }

  /**
   * Takes the store as it is for the installation's, and away from any other server. `commit` remembers what it is given, in the transaction that has every replica looked for again. It comes before the mark: with the mark alone in the
   * store a server that was cut off in between would take for replicated what is not there. Cut off after the commit, the store is refused, or is the installation's with every replica waiting for its upload. Again is success.
   */
  async accept(signal: AbortSignal, commit: (accepted: AcceptedStore) => Promise<void>): Promise<void> {
    const [installations, stores] = await this.#identify(signal);
    await this.#takeInstallation(installations, signal);
    const storeId = await this.#nameStore(stores, signal);
    const { marks } = await this.#memory.get();
    await commit({ storeId, marks: [...this.#withoutOwn(marks), this.#mark] });
    await step("snapshot-store-accept.mark", () => this.#putMark(false, signal));
    const others = this.#withoutOwn(await this.#list("owners", signal));
    for (const other of others)
      await step("snapshot-store-accept.replace", () => this.#objects.delete(`owners/${other}`, signal));
    this.#keepMark();
    await this.#memory.remember({ marks: [this.#mark] });
  }

  /** Lets another key of the installation in, which comes in the place of this one: from now on the store is this installation's with either. */
  async admitKey(nextKey: Buffer, signal: AbortSignal): Promise<void> {
    const nextId = installationIdOf(nextKey);
    const former = await formerInstallations(this.#objects, this.#installationId, signal);
    // Of a change that was given up.
    await this.#deleteInstallations((id) => id !== this.#installationId && id !== nextId, signal);
    await putInstallation(this.#objects, nextId, [this.#installationId, ...former], signal);
    if (!(await listInstallations(this.#objects, signal)).includes(nextId)) throw lostInstallation(nextId);
  }

  /** The key of `admitKey` is the installation's from now on. */
  changeKey(nextKey: Buffer): void {
    this.#installationId = installationIdOf(nextKey);
  }

  /** With every other key the store is refused from now on. */
  async refuseOtherKeys(signal: AbortSignal): Promise<void> {
    await this.#deleteInstallations((id) => id !== this.#installationId, signal);
  }

  async #deleteInstallations(isUnwanted: (id: string) => boolean, signal: AbortSignal): Promise<void> {
    for (const id of (await listInstallations(this.#objects, signal)).filter(isUnwanted))
      await this.#objects.delete(`installations/${id}`, signal);
  }

  /** Says in the store that this server has ended, so that the next one need not wait. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#timer === null) return;
    clearInterval(this.#timer);
    this.#timer = null;
    const signal = AbortSignal.timeout(END_WAIT_MS);
    // Without it the next server waits a little; the store may be away.
    await this.#renew(true, signal).catch(() => undefined);
  }

  async #identify(signal: AbortSignal): Promise<readonly [readonly string[], readonly string[]]> {
    const installations = await listInstallations(this.#objects, signal);
    if (installations.length > 0 && !installations.includes(this.#installationId))
      throw (await isReplaced(this.#objects, this.#installationId, signal)) ? replaced() : foreign();
    return [installations, await this.#list("stores", signal)];
  }

  /** False: it is to be named and remembered, which loses nothing. */
  async #requireKnown(installations: readonly string[], stores: readonly string[]): Promise<boolean> {
    const { storeId } = await this.#memory.get();
    if (storeId !== null && stores.includes(storeId)) return true;
    // Of an older version, which named no stores.
    if (storeId === null && installations.length > 0) return false;
    const count = await this.#memory.countReplicas();
    if (storeId === null && count === 0) return false;
    const isEmpty = installations.length === 0 && stores.length === 0;
    const replicas = count === 1 ? "a snapshot is replicated" : `${count} snapshots are replicated`;
    throw refused(
      `it is ${isEmpty ? "empty" : "another one"}, although ${count === 0 ? "the one that was used before may have backups" : replicas}. Mount its disk, or correct snapshot_store.url. If this one is to be used from now on, and replicas are to be made anew in it, an administrator says so: \`caisson store accept\``,
    );
  }

  async #takeInstallation(found: readonly string[], signal: AbortSignal): Promise<void> {
    const own = this.#installationId;
    let installations = found;
    if (installations.length === 0) {
      await putInstallation(this.#objects, own, [], signal);
      installations = await listInstallations(this.#objects, signal);
    }
    const [first] = installations;
    if (first === own) return;
    if (first === undefined) throw lostInstallation(own);
    if (installations.includes(own) && (await this.#isOneInstallation(first, signal))) return;
    await this.#objects.delete(`installations/${own}`, signal);
    throw foreign();
  }

  /** Whether one of the two keys comes in the place of the other. */
  async #isOneInstallation(other: string, signal: AbortSignal): Promise<boolean> {
    const own = this.#installationId;
    const [ofOwn, ofOther] = await Promise.all(
      [own, other].map((id) => formerInstallations(this.#objects, id, signal)),
    );
    return ofOwn?.includes(other) === true || ofOther?.includes(own) === true;
  }

  /** The id that it has, the lowest of several, or else a new one. */
  async #nameStore(stores: readonly string[], signal: AbortSignal): Promise<string> {
    const [first] = stores;
    if (first !== undefined) return first;
    const id = randomBytes(8).toString("hex");
    await step("snapshot-store.name", () => this.#objects.put(`stores/${id}`, Buffer.alloc(0), signal));
    return id;
  }

  async #claim(signal: AbortSignal): Promise<void> {
    const found = await this.#list("owners", signal);
    const earlier = await this.#findEarlier(found, signal);
    if (found.includes(this.#mark) && this.#timer !== null && earlier.length === 0) return;
    const { marks } = await this.#memory.get();
    if (!marks.includes(this.#mark)) await this.#memory.remember({ marks: [...marks, this.#mark] });
    await step("snapshot-store.mark", () => this.#putMark(false, signal));
    const now = await this.#list("owners", signal);
    if (now.some((mark) => mark !== this.#mark && !earlier.includes(mark))) {
      await this.#objects.delete(`owners/${this.#mark}`, signal);
      throw refused("another server with the key of this installation comes to it at the same time. It is tried again");
    }
    for (const mark of earlier)
      await step("snapshot-store.replace", () => this.#objects.delete(`owners/${mark}`, signal));
    await this.#memory.remember({ marks: [this.#mark] });
    this.#keepMark();
  }

  /** The marks of earlier runs among these, all of which have ended. Throws when one has not, or one of another server is there. */
  async #findEarlier(found: readonly string[], signal: AbortSignal): Promise<readonly string[]> {
    const others = this.#withoutOwn(found);
    if (others.length === 0) return others;
    const { marks } = await this.#memory.get();
    if (others.some((mark) => !marks.includes(mark))) throw usedByAnother();
    for (const mark of others) await this.#requireEnded(mark, signal);
    return others;
  }

  #withoutOwn(marks: readonly string[]): readonly string[] {
    return marks.filter((mark) => mark !== this.#mark);
  }

  async #requireEnded(mark: string, signal: AbortSignal): Promise<void> {
    const bytes = await this.#objects.get(`owners/${mark}`, MARK_BYTES_MAX, signal);
    if (bytes === null) return;
    const { place, beat, isEnded } = parseMark(bytes.toString());
    if (isEnded || place === this.#place) return;
    const seen = this.#seen.get(mark);
    // No clock of another host is trusted: only that it says nothing new.
    const nowMs = performance.now();
    if (seen?.beat !== beat) this.#seen.set(mark, { beat, atMs: nowMs });
    else if (nowMs - seen.atMs > SILENCE_MS) return;
    throw refused(
      `another server with the key of this installation may be using it. One that has ended is given up after ${SILENCE_MS / 60_000} minutes; a copy of an installation needs a snapshot_store.url of its own`,
    );
  }

  #keepMark(): void {
    // Its failures are those of the next use, which tells them.
    this.#timer ??= setInterval(
      () => void this.#renew(false, AbortSignal.timeout(BEAT_MS)).catch(() => undefined),
      BEAT_MS,
    );
    this.#timer.unref();
  }

  /** Puts no mark back that somebody has taken away. */
  async #renew(isEnded: boolean, signal: AbortSignal): Promise<void> {
    const found = await this.#list("owners", signal);
    if (found.includes(this.#mark)) await this.#putMark(isEnded, signal);
  }

  async #putMark(isEnded: boolean, signal: AbortSignal): Promise<void> {
    this.#beat += 1;
    const mark: Mark = { place: this.#place, beat: this.#beat, isEnded };
    await this.#objects.put(`owners/${this.#mark}`, Buffer.from(JSON.stringify(mark)), signal);
  }

  /** The ids below a folder, the lowest first. What else somebody has put there is left alone. */
  async #list(folder: string, signal: AbortSignal): Promise<readonly string[]> {
    const keys = await Array.fromAsync(this.#objects.list(`${folder}/`, signal), ({ key }) =>
      key.slice(folder.length + 1),
    );
    return keys.filter((id) => /^[0-9a-f]{16}$/.test(id)).sort();
  }
}

/** One that cannot be read is of a server that has not ended, and says nothing new. */
function parseMark(text: string): Mark {
  try {
    const { place, beat, isEnded } = JSON.parse(text) as Mark;
    if (typeof place === "string" && typeof beat === "number") return { place, beat, isEnded: isEnded === true };
  } catch {
    // Damaged, as is one of another form.
  }
  return { place: "", beat: -1, isEnded: false };
}

function foreign(): CaissonError {
  return new CaissonError(
    "SNAPSHOT_STORE_UNAVAILABLE",
    "The snapshot store was made with another installation key. Give this server the key of the one that made it (`caisson keys export` there), or choose another place in snapshot_store.url",
  );
}

function replaced(): CaissonError {
  return new CaissonError(
    "SNAPSHOT_STORE_UNAVAILABLE",
    "The snapshot store has a newer installation key: `caisson keys rotate` has replaced this one. Give this server the newer one (`caisson keys export` prints it where it was replaced). Where its database is from before that, `caisson store accept` has it know the newer one",
  );
}

function lostInstallation(id: string): CaissonError {
  return new CaissonError(
    "SNAPSHOT_STORE_UNAVAILABLE",
    `The snapshot store lost installations/${id} that it had stored`,
  );
}

function usedByAnother(): CaissonError {
  return refused(
    "another server with the key of this installation has used it since this one did last, such as a copy of the data directory. Give the copy a snapshot_store.url of its own. If this is the server that keeps the store, an administrator says so when the other one has ended: `caisson store accept`",
  );
}

function refused(reason: string): CaissonError {
  return new CaissonError("SNAPSHOT_STORE_UNAVAILABLE", `The snapshot store is refused: ${reason}`);
}
