import type { ObjectStore } from "@caisson/objects";
import { SnapshotStore, type StoreMemory } from "@caisson/snapshot-store";
import { openRows } from "../database/open-store.ts";
import { keyChangesFor } from "../snapshot-store/key-rotation.ts";
import { placeOf } from "../snapshot-store/open-snapshot-store.ts";

/** What is read has no need of it: nothing is swept or uploaded. */
const UNUSED = { bytesPerSecond: null, graceMs: 0 };

/** Objects that nobody can change through this. */
function readOnly(objects: ObjectStore): ObjectStore {
  const refuse = () => Promise.reject(new Error("The store was opened to be read alone"));
  return {
    url: objects.url,
    get: (key, maxBytes, signal) => objects.get(key, maxBytes, signal),
    list: (prefix, signal) => objects.list(prefix, signal),
    put: refuse,
    delete: refuse,
    [Symbol.asyncDispose]: async () => undefined,
  };
}

/** The store, to be read alone. It remembers nothing, and takes nothing from the server whose store it is. The caller disposes of `objects`. */
export function openForReading(objects: ObjectStore, key: Buffer): SnapshotStore {
  const memory: StoreMemory = {
    get: async () => ({ storeId: null, marks: [] }),
    remember: () => Promise.reject(new Error("The store was opened to be read alone")),
    countReplicas: async () => 0,
  };
  const options = {
    objects: readOnly(objects),
    installationKeys: async () => ({ current: key, next: null }),
    memory,
    place: "",
  };
  return new SnapshotStore({ ...options, ...UNUSED });
}

/**
 * Takes the store away from whoever had it, for the restored rows in `rowsPath`, which remember it: the server that starts on them finds that it is theirs, and the one that had it is refused its writes from then on. Again is
 * success.
 */
export async function claimStore(
  claim: {
    readonly objects: ObjectStore;
    readonly key: Buffer;
    readonly rowsPath: string;
    readonly dataDirectory: string;
  },
  signal: AbortSignal,
): Promise<void> {
  const rows = openRows(claim.rowsPath);
  try {
    const { objects, key, dataDirectory } = claim;
    const memory = rows.snapshotStore;
    const place = await placeOf(dataDirectory);
    // Its end says in the store that this program has ended, so that the server that starts waits for nothing.
    await using store = new SnapshotStore({
      objects,
      installationKeys: async () => ({ current: key, next: null }),
      memory,
      place,
      ...UNUSED,
    });
    // Rows of before `caisson keys rotate` know a former key, and those of while it was under way one that is not here.
    const known = await keyChangesFor(store, key, signal);
    await store.accept(signal, (accepted) => memory.remember({ ...accepted, ...known }));
  } finally {
    await rows.close();
  }
}
