import { CaissonError } from "@caisson/model";
import type { ClientBase } from "pg";
import { Type } from "typebox";
import { Value } from "typebox/value";
import type { Row } from "../records.ts";
import type { Leadership, ServerAddress } from "../store.ts";
import type { Database } from "./database.ts";

/** How long a server that leads is taken to be there after it has last said so, by the clock of the database. */
export const LEASE_MS = 15_000;
export const RENEW_INTERVAL_MS = 3_000;
/** Milliseconds since 1970, as SQL. */
export const NOW_MS = "(extract(epoch FROM clock_timestamp()) * 1000)::bigint";

const Listener = Type.Object({ host: Type.String(), port: Type.Integer() });
const AddressSchema = Type.Object({
  api: Listener,
  previews: Listener,
  ssh: Type.Union([Listener, Type.Null()]),
});

/** The server that has the database, as its row tells. */
export interface Leader {
  readonly installationId: string;
  /** For people: where that is. */
  readonly host: string;
  readonly dataDirectory: string;
  /** It has no disks of its own, so that another one can take its place. */
  readonly isShared: boolean;
  /** Null: it does not take connections yet. */
  readonly address: ServerAddress | null;
  /** Negative: it has not said for so long that it is there. */
  readonly leaseLeftMs: number;
}

/** Null: no server has ever had the database. One with an older schema has no columns for what is asked here, and is shared by none. */
export async function findLeader(client: ClientBase): Promise<Leader | null> {
  const made = await client.query<Row>("SELECT to_regclass('installation') IS NOT NULL AS is_made");
  if (made.rows[0]?.is_made !== true) return null;
  const found = await client.query<Row>(
    `SELECT row_to_json(installation) AS leader, ${NOW_MS} AS now_ms FROM installation`,
  );
  return found.rows[0] === undefined ? null : readLeader(found.rows[0]);
}

function readLeader(row: Row): Leader {
  const { id, host, data_directory, is_shared, address, lease_until_ms } = JSON.parse(String(row.leader)) as Row;
  return {
    installationId: String(id),
    host: String(host),
    dataDirectory: String(data_directory),
    isShared: is_shared === true,
    address: readAddress(address),
    leaseLeftMs: Number(lease_until_ms ?? 0) - Number(row.now_ms),
  };
}

/** Throws `INVALID_CONFIG` for one that nobody can stand by for. */
export function requireShared({ isShared, host, dataDirectory }: Leader, description: string): void {
  if (isShared) return;
  throw new CaissonError(
    "INVALID_CONFIG",
    `Another server uses the database ${description} (${host}, data in ${dataDirectory}), and none can stand by for it, because it has a node of its own, or is an older Caisson: ` +
      "bring it up to date, and start it with --role control, and a node by itself with --role node; or stop it, or give this one a database of its own",
  );
}

/** What the server that leads does for the others. */
export function createLeadership(database: Database): Leadership {
  return {
    term: database.generation,
    async announce(address) {
      await database.transaction((queries) =>
        queries.run("UPDATE installation SET address = $1", JSON.stringify(address)),
      );
    },
    share(name, content) {
      return database.transaction(async (queries) => {
        await queries.run(
          "INSERT INTO shared_secrets (name, content) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING",
          name,
          content,
        );
        return String((await queries.get("SELECT content FROM shared_secrets WHERE name = $1", name))?.content);
      });
    },
  };
}

function readAddress(value: unknown): ServerAddress | null {
  return Value.Check(AddressSchema, value) ? value : null;
}
