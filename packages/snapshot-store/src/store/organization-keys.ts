import { createHmac, randomBytes } from "node:crypto";
import { KeyedLock, step } from "@caisson/linux";
import { CaissonError } from "@caisson/model";
import type { ObjectStore } from "@caisson/objects";
import { mapInOrder } from "../map-in-order.ts";
import { installationIdOf, isReplaced, listInstallations } from "./installations.ts";
import { deriveKey, SEAL_BYTES, seal, unseal } from "./sealed-bytes.ts";
import { UnreadableKeyError } from "./store-damage.ts";

const KEY_BYTES = 32;
const WRAP_BYTES = SEAL_BYTES + KEY_BYTES;
const OBJECT_BYTES_MAX = 1024;
/** Keys that are wrapped anew at a time. */
const WRAPS_AT_ONCE = 4;
/** One changes, one proves; more are for what came meanwhile. */
const PASSES_MAX = 5;

/** The keys of an installation that wrap the keys of organizations. */
export interface InstallationKeys {
  /** The one in use, 32 bytes: it opens everything. */
  readonly current: Buffer;
  /** The one that comes in its place and opens everything as well; null: none comes. `absent`: one does, and this server does not have it. */
  readonly next: Buffer | "absent" | null;
}

/** The keys of one organization: what it stores can be found and read by them alone. */
export interface OrganizationKey {
  readonly id: string;
  /** The id of a chunk: without the key it tells nothing of what the chunk holds, nor whether another organization has the same one. */
  chunkId(sha256: Buffer): string;
  seal(name: string, bytes: Uint8Array): Buffer;
  unseal(name: string, sealed: Buffer): Buffer;
}

/**
 * The keys of organizations lie in the store, each wrapped by the installation's key, as `keys/ORGANIZATION/ID`. Two servers may each make one for a new organization: all that is there are good for reading, by
 * the id that every manifest names, and the first by its id is used for writing. So the store needs no conditional writes.
 *
 * Without its key all of an organization is lost: the same bytes lie at `key-copies/ORGANIZATION/ID` as well, and what is missing or damaged in one of the two places is made again from the other.
 *
 * While the installation's key is replaced, each object has two wraps, one after the other: by the key that there is, and by the one that comes. Either opens everything, so that whatever cuts that off loses nothing. A server that does not have the
 * one that comes makes no key and mends none: the wraps by that one stay as they are.
 */
export class OrganizationKeys {
  readonly #objects: ObjectStore;
  #wrapping: WrappingKey;
  /** The one that comes in its place. */
  #next: WrappingKey | null;
  #isNextAbsent: boolean;
  readonly #known = new Map<string, KnownKey>();
  /** By organization, so that nobody writes what another one has just replaced. */
  readonly #writing = new KeyedLock();

  constructor(objects: ObjectStore, { current, next }: InstallationKeys) {
    this.#objects = objects;
    this.#wrapping = wrappingKey(current);
    this.#next = Buffer.isBuffer(next) ? wrappingKey(next) : null;
    this.#isNextAbsent = next === "absent";
  }

  /** The key to write with; made when there is none. It is in both places when this resolves, where this server has the keys to put it there. Throws `SNAPSHOT_STORE_UNAVAILABLE` where it is to be made without them. */
  async forWriting(organizationId: string, signal?: AbortSignal): Promise<OrganizationKey> {
    return this.#writing.run(organizationId, async () => {
      const id = (await this.#firstId(organizationId, signal)) ?? (await this.#make(organizationId, signal));
      const key = await this.get(organizationId, id, signal);
      if (!this.#isNextAbsent) await this.#keepBoth({ organizationId, id }, signal);
      return key;
    });
  }

  async get(organizationId: string, id: string, signal?: AbortSignal): Promise<OrganizationKey> {
    const name = nameOf({ organizationId, id });
    const known = this.#known.get(name);
    if (known !== undefined) return known.key;
    return this.#remember({ organizationId, id }, await this.#open(name, signal)).key;
  }

  /**
   * Wraps all that is there by another key of the installation as well, and what comes from now on. When it resolves, every object was read back, and the other key has opened it. Returns how many keys there are. Throws when one of them cannot be opened by the key that there is: nothing is lost
   * then, and it can be done again, also with another key.
   */
  async wrapFor(nextKey: Buffer, signal: AbortSignal): Promise<number> {
    this.#next = wrappingKey(nextKey);
    this.#isNextAbsent = false;
    return this.#wrapAll("keys-rotate.wrap", signal);
  }

  /** The key of `wrapFor` is the installation's from now on. */
  changeKey(): void {
    if (this.#next === null) throw new Error("There is no key to change to");
    this.#wrapping = this.#next;
    this.#next = null;
  }

  /** Takes away every wrap but that by the installation's key, and proves each as `wrapFor` does. */
  wrapOnce(signal: AbortSignal): Promise<number> {
    // Of a change that was given up.
    this.#next = null;
    return this.#wrapAll("keys-finish.unwrap", signal);
  }

  /** How many keys there are. Throws unless the installation's key opens each, as it lies in the store now. Nothing is written. */
  async count(signal: AbortSignal): Promise<number> {
    let count = 0;
    for await (const ref of this.#list(signal)) {
      await this.#open(nameOf(ref), signal);
      count += 1;
    }
    return count;
  }

  /** Passes over all, until one finds nothing to be changed: that one has read and opened everything as it is to be. */
  async #wrapAll(tag: string, signal: AbortSignal): Promise<number> {
    // What was begun before may write as it was to be then.
    await this.#writing.idle();
    for (let pass = 0; pass < PASSES_MAX; pass += 1) {
      let [count, changed] = [0, 0];
      const wrap = (ref: KeyRef) => this.#writing.run(ref.organizationId, () => this.#wrapOne(tag, ref, signal));
      for await (const outcome of mapInOrder(this.#list(signal), WRAPS_AT_ONCE, wrap)) {
        count += outcome === "gone" ? 0 : 1;
        changed += outcome === "changed" ? 1 : 0;
      }
      if (changed === 0) return count;
    }
    throw new CaissonError(
      "SNAPSHOT_STORE_UNAVAILABLE",
      "The snapshot store does not give back the keys of organizations as they were stored: nothing is lost, try again",
    );
  }

  /** `gone`: it was taken out of the store since it was listed. */
  async #wrapOne(tag: string, ref: KeyRef, signal: AbortSignal): Promise<"gone" | "changed" | "proven"> {
    const name = nameOf(ref);
    const found = await Promise.all([this.#read(name, signal), this.#read(copyOf(name), signal)]);
    if (found.every((wrapped) => wrapped === null)) return "gone";
    const opened = found.map((wrapped) => this.#unwrap(name, wrapped)).find((bytes) => bytes !== null);
    const bytes = this.#known.get(name)?.bytes ?? opened;
    if (bytes === undefined) throw await this.#unreadable(name, found[0], signal);
    this.#remember(ref, bytes);
    const newest = this.#next ?? this.#wrapping;
    const isProven = (wrapped: Buffer | null) =>
      wrapped?.equals(this.#wrap(name, bytes)) === true && unwrapBy(newest, name, wrapped)?.equals(bytes) === true;
    if (found.every(isProven)) return "proven";
    await step(tag, () => this.#keepBoth(ref, signal));
    return "changed";
  }

  #remember({ organizationId, id }: KeyRef, bytes: Buffer): KnownKey {
    const found = { key: organizationKey(id, bytes), bytes };
    this.#known.set(nameOf({ organizationId, id }), found);
    return found;
  }

  #read(name: string, signal?: AbortSignal): Promise<Buffer | null> {
    return this.#objects.get(name, OBJECT_BYTES_MAX, signal);
  }

  #wrap(name: string, bytes: Buffer): Buffer {
    const keys = this.#next === null ? [this.#wrapping] : [this.#wrapping, this.#next];
    return Buffer.concat(keys.map(({ key }) => seal(key, name, bytes)));
  }

  /** What is wrapped, from either place. */
  async #open(name: string, signal?: AbortSignal): Promise<Buffer> {
    const wrapped = await this.#read(name, signal);
    const bytes = this.#unwrap(name, wrapped) ?? this.#unwrap(name, await this.#read(copyOf(name), signal));
    if (bytes === null) throw await this.#unreadable(name, wrapped, signal);
    return bytes;
  }

  /** Null: there is none, or it is damaged. */
  #unwrap(name: string, wrapped: Buffer | null): Buffer | null {
    if (wrapped === null) return null;
    const byNext = this.#next === null ? null : unwrapBy(this.#next, name, wrapped);
    return unwrapBy(this.#wrapping, name, wrapped) ?? byNext;
  }

  async #make(organizationId: string, signal?: AbortSignal): Promise<string> {
    if (this.#isNextAbsent) throw absentKey(`make a key for ${organizationId} in the snapshot store`);
    const id = randomBytes(8).toString("hex");
    const name = nameOf({ organizationId, id });
    await this.#objects.put(name, this.#wrap(name, randomBytes(KEY_BYTES)), signal);
    // Perhaps another server's.
    const made = await this.#firstId(organizationId, signal);
    if (made !== null) return made;
    throw new CaissonError("SNAPSHOT_STORE_UNAVAILABLE", `The snapshot store lost the key ${name} that it had stored`);
  }

  /** Makes again what is missing or damaged in one of the two places, or wrapped otherwise than it is to be. */
  async #keepBoth(ref: KeyRef, signal?: AbortSignal): Promise<void> {
    const name = nameOf(ref);
    const known = this.#known.get(name);
    if (known === undefined) return;
    for (const place of [name, copyOf(name)]) {
      const wrapped = await this.#read(place, signal);
      const wanted = this.#wrap(name, known.bytes);
      if (wrapped?.equals(wanted) !== true) await this.#objects.put(place, wanted, signal);
    }
  }

  /** The lowest id of the organization's keys, of those in either place. */
  async #firstId(organizationId: string, signal?: AbortSignal): Promise<string | null> {
    const ids = await Array.fromAsync(this.#list(signal, `${organizationId}/`), ({ id }) => id);
    return ids.sort()[0] ?? null;
  }

  /** All keys in either place, each once, whose names begin so. What else somebody has put there is left alone. */
  async *#list(signal?: AbortSignal, prefix = ""): AsyncGenerator<KeyRef, void> {
    const listed = new Set<string>();
    for (const folder of ["keys", "key-copies"])
      for await (const { key } of this.#objects.list(`${folder}/${prefix}`, signal)) {
        const [, organizationId, id, more] = key.split("/");
        if (organizationId === undefined || id === undefined || more !== undefined) continue;
        const name = nameOf({ organizationId, id });
        if (!/^[0-9a-f]{16}$/.test(id) || listed.has(name)) continue;
        listed.add(name);
        yield { organizationId, id };
      }
  }

  async #unreadable(name: string, wrapped: Buffer | null | undefined, signal?: AbortSignal): Promise<CaissonError> {
    const { installationId } = this.#wrapping;
    const action = `Cannot read ${name} of the snapshot store, nor its copy`;
    const isMissing = wrapped === null;
    // The installation's own key opens what is whole.
    if ((await listInstallations(this.#objects, signal)).includes(installationId))
      return new UnreadableKeyError(
        `${action}: ${isMissing ? "it is missing from the store" : "it is damaged there"}. Put one of the two back from a copy of the store: nobody can read what it has encrypted without it`,
      );
    const reason = isMissing
      ? "it is missing from the store"
      : (await isReplaced(this.#objects, installationId, signal))
        ? "the key that was given is a former one, which `caisson keys rotate` has replaced"
        : "the key of this installation does not fit it";
    return new UnreadableKeyError(
      `${action}: ${reason}. Give the installation key that the store has now: \`caisson keys export\` prints it on the server that uses the store`,
    );
  }
}

interface KeyRef {
  readonly organizationId: string;
  readonly id: string;
}

interface KnownKey {
  readonly key: OrganizationKey;
  /** What is wrapped. */
  readonly bytes: Buffer;
}

/** What wraps, made of a key of the installation. */
interface WrappingKey {
  readonly installationId: string;
  readonly key: Buffer;
}

function wrappingKey(installationKey: Buffer): WrappingKey {
  return { installationId: installationIdOf(installationKey), key: deriveKey(installationKey, "organizations") };
}

/** Opens whichever of the wraps in an object is by this key; null: none is. */
function unwrapBy({ key }: WrappingKey, name: string, wrapped: Buffer): Buffer | null {
  if (wrapped.length % WRAP_BYTES !== 0) return null;
  for (let offset = 0; offset < wrapped.length; offset += WRAP_BYTES) {
    try {
      return unseal(key, name, wrapped.subarray(offset, offset + WRAP_BYTES));
    } catch {
      // It is by the other key, or damaged.
    }
  }
  return null;
}

/** Of the key that comes in the place of the one in use. */
export function absentKey(action: string): CaissonError {
  return new CaissonError(
    "SNAPSHOT_STORE_UNAVAILABLE",
    `Cannot ${action}: \`caisson keys rotate\` is replacing the installation key, and this server does not have the new one. Put what \`caisson keys export --new\` printed into keys/installation.key.next of the data directory; the server needs no restart for it. If nobody has it any more, run \`caisson keys rotate\` again: that makes another one`,
  );
}

function organizationKey(id: string, key: Buffer): OrganizationKey {
  const naming = deriveKey(key, "chunk ids");
  const sealing = deriveKey(key, "contents");
  return {
    id,
    chunkId: (sha256) => createHmac("sha256", naming).update(sha256).digest("hex"),
    seal: (name, bytes) => seal(deriveKey(sealing, name), name, bytes),
    unseal: (name, sealed) => unseal(deriveKey(sealing, name), name, sealed),
  };
}

function nameOf({ organizationId, id }: KeyRef): string {
  return `keys/${organizationId}/${id}`;
}

function copyOf(name: string): string {
  return `key-copies/${name.slice("keys/".length)}`;
}
