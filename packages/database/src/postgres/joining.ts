import { IS_REMOTE, toAuthority, toJoinToken, toNode } from "../records.ts";
import type { Authority, JoiningStore, JoinOutcome, JoinToken, RetireOutcome } from "../store.ts";
import type { Database, Queries } from "./database.ts";
import { changeWithEvent, writeEvent } from "./events.ts";
import { NODE_COLUMNS, NOW_MS } from "./nodes.ts";

const JOINED_AGAIN = "address = $1, certificate_authority = NULL, oldest_authority = NULL";

export function createJoiningStore(database: Database): JoiningStore {
  const insertNode = (queries: Queries, id: string, region: string | null, address: string): Promise<unknown> =>
    queries.run(
      `INSERT INTO nodes (id, regions, only_region, address, labels, places, generation, lease_until_ms, started_at_ms, seen_at_ms)
       VALUES ($1, $2, $3, $4, '{}', 0, 0, 0, ${NOW_MS}, ${NOW_MS})`,
      id,
      JSON.stringify(region === null ? [] : [region]),
      region,
      address,
    );

  const joined = async (queries: Queries, token: JoinToken, nodeId: string, isAgain: boolean): Promise<JoinOutcome> => {
    const row = await queries.get(`SELECT ${NODE_COLUMNS} FROM nodes WHERE id = $1`, nodeId);
    if (row === undefined) return { kind: "refused", reason: "forgotten" };
    return { kind: "joined", node: toNode(row), token: { ...token, nodeId }, isAgain };
  };

  const listAuthorities = async (queries: Queries): Promise<readonly Authority[]> =>
    (await queries.all("SELECT * FROM authorities ORDER BY number")).map(toAuthority);

  /** They stay as they are until the transaction ends. */
  const lockBelieved = async (queries: Queries): Promise<readonly Authority[]> => {
    await queries.all("SELECT number FROM authorities ORDER BY number FOR UPDATE");
    return (await listAuthorities(queries)).filter(({ privateKey }) => privateKey !== null);
  };

  return {
    authorities() {
      return database.read(listAuthorities);
    },

    makeAuthority({ certificate, privateKey }, event) {
      return database.transaction(async (queries) => {
        const sql =
          "INSERT INTO authorities (number, certificate, private_key) VALUES (1, $1, $2) ON CONFLICT DO NOTHING";
        // Waits for another that is just making it.
        if ((await queries.run(sql, certificate, privateKey)) > 0) await writeEvent(queries, event);
        return listAuthorities(queries);
      });
    },

    addAuthority({ certificate, privateKey }, beside, event) {
      return database.transaction(async (queries) => {
        const [only, another] = await lockBelieved(queries);
        if (only?.number !== beside || another !== undefined) return false;
        const sql =
          "INSERT INTO authorities (number, certificate, private_key) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
        // Another that has added one meanwhile has it.
        if ((await queries.run(sql, beside + 1, certificate, privateKey)) === 0) return false;
        await writeEvent(queries, event);
        return true;
      });
    },

    retireAuthority(number, isLockingOut, event) {
      return database.transaction(async (queries): Promise<RetireOutcome> => {
        const [older, newest] = await lockBelieved(queries);
        if (older?.number !== number || newest === undefined) return { kind: "stale" };
        // A machine that is just joining is a node before it is looked which there are, or finds no token any more.
        await queries.all("SELECT id FROM join_tokens ORDER BY id FOR UPDATE");
        const sql = `SELECT id FROM nodes WHERE ${IS_REMOTE} AND certificate_authority IS DISTINCT FROM $1 ORDER BY id`;
        const nodeIds = (await queries.all(sql, newest.number)).map(({ id }) => String(id));
        if (nodeIds.length > 0 && !isLockingOut) return { kind: "refused", nodeIds };
        await queries.run("UPDATE authorities SET private_key = NULL WHERE number = $1", number);
        await queries.run("DELETE FROM join_tokens");
        await writeEvent(queries, event);
        return { kind: "retired" };
      });
    },

    createToken({ id, region }, hash, lifetimeMs, event) {
      return database.transaction(async (queries) => {
        const row = await changeWithEvent(
          queries,
          `INSERT INTO join_tokens (id, hash, region, created_at_ms, expires_at_ms) VALUES ($1, $2, $3, ${NOW_MS}, ${NOW_MS} + $4::bigint)`,
          [id, hash, region, lifetimeMs],
          event,
        );
        return toJoinToken(row ?? {});
      });
    },

    async listTokens() {
      const sql = `SELECT * FROM join_tokens WHERE expires_at_ms > ${NOW_MS} ORDER BY created_at_ms DESC, id`;
      return (await database.read((queries) => queries.all(sql))).map(toJoinToken);
    },

    async revokeToken(id, event) {
      const sql = `DELETE FROM join_tokens WHERE id = $1 AND expires_at_ms > ${NOW_MS}`;
      const row = await database.transaction((queries) => changeWithEvent(queries, sql, [id], event));
      return row !== undefined;
    },

    join(hash, { nodeId, keyFingerprint, address, isNode = false }, event) {
      return database.transaction(async (queries): Promise<JoinOutcome> => {
        // Of several that use it at once, each sees what the one before it did.
        const row = await queries.get(
          `SELECT *, expires_at_ms > ${NOW_MS} AS is_valid FROM join_tokens WHERE hash = $1 FOR UPDATE`,
          hash,
        );
        if (row === undefined) return { kind: "refused", reason: "unknown" };
        if (row.is_valid !== true) return { kind: "refused", reason: "expired" };
        const token = toJoinToken(row);
        if (token.nodeId !== null) {
          if (row.key_fingerprint !== keyFingerprint) return { kind: "refused", reason: "used" };
          await queries.run(`UPDATE nodes SET ${JOINED_AGAIN} WHERE id = $2`, address, token.nodeId);
          return joined(queries, token, token.nodeId, true);
        }
        if (isNode) {
          const sql = `UPDATE nodes SET ${JOINED_AGAIN} WHERE id = $2 AND lost_at_ms IS NULL`;
          if ((await queries.run(sql, address, nodeId)) === 0) return { kind: "refused", reason: "forgotten" };
        }
        await queries.run(
          "UPDATE join_tokens SET key_fingerprint = $1, node_id = $2 WHERE id = $3",
          keyFingerprint,
          nodeId,
          token.id,
        );
        if (!isNode) await insertNode(queries, nodeId, token.region, address);
        await writeEvent(queries, event);
        return joined(queries, token, nodeId, false);
      });
    },

    async expireTokens(beforeMs) {
      await database.deleteAll("join_tokens", "expires_at_ms < $1", beforeMs);
    },
  };
}
