import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { Store } from "@caisson/database";
import { CaissonError, randomCharacters } from "@caisson/model";
import { Type } from "typebox";
import { Value } from "typebox/value";
import { parseNodeAddress } from "./app/nodes/node-address.ts";
import { writeDurably } from "./write-durably.ts";

const NAME = "node.json";
const NodeFileSchema = Type.Object({ id: Type.String({ minLength: 1 }) });

/**
 * The id of the node that a data directory is, from its file `node.json`; made when there is none. A directory without the file is the node that the database knows, if it
 * knows one: the file was lost, or the rows are older than it. Throws `INVALID_CONFIG` when that could be several, for a file that names a node which the database does not know among others, and for one that
 * cannot be read.
 */
export async function ensureNodeId(dataDirectory: string, store: Store): Promise<string> {
  const path = join(dataDirectory, NAME);
  const existing = await read(path);
  // Those that joined from other machines have their ids in directories of their own.
  const known = (await store.nodes.list()).filter(({ address }) => parseNodeAddress(address) === null);
  const ids = known.map((node) => node.id).join(", ");
  // A start that was cut off has written the file and begun no node.
  if (existing !== null && (known.length === 0 || known.some((node) => node.id === existing))) return existing;
  if (existing !== null)
    throw new CaissonError(
      "INVALID_CONFIG",
      `${path} names node ${existing}, which the database does not know: it knows ${ids}. What that database has is not in this data directory. ` +
        "Start with the data directory of one of those nodes, or with the database of this one",
    );
  if (known.length > 1)
    throw new CaissonError(
      "INVALID_CONFIG",
      `${path} is missing, and the database knows several nodes (${ids}): ` +
        `restore the file from a backup, or write {"id": "nod_…"} into it with the id of this machine's node`,
    );
  const id = known[0]?.id ?? `nod_${randomCharacters(20)}`;
  await writeDurably(dataDirectory, NAME, `${JSON.stringify({ id })}\n`, 0o644, "node-file.commit");
  return id;
}

async function read(path: string): Promise<string | null> {
  try {
    const value: unknown = JSON.parse(await readFile(path, "utf8"));
    if (Value.Check(NodeFileSchema, value)) return value.id;
    throw new Error("it has not the form that Caisson writes");
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return null;
    throw new CaissonError(
      "INVALID_CONFIG",
      `Cannot read ${path}: ${error instanceof Error ? error.message : String(error)}. Restore the file from a backup`,
      { cause: error },
    );
  }
}
