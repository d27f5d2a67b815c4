import { IS_REMOTE, toAuthority, toJoinToken, toNode } from "../records.ts";
import type { JoiningStore, JoinOutcome, JoinToken, RetireOutcome } from "../store.ts";
import type { Connection } from "./connection.ts";
import { writeEvent } from "./events.ts";
import { NOW_MS, SELECT_NODES } from "./nodes.ts";

const JOINED_AGAIN = "address = ?, certificate_authority = NULL, oldest_authority = NULL";

export function createJoiningStore(connection: Connection): JoiningStore {
  const insertNode = (id: string, region: string | null, address: string): void => {
    connection.run(
      `INSERT INTO nodes (id, regions, only_region, address, labels, places, generation, lease_until_ms, started_at_ms, seen_at_ms)
       VALUES (?, ?, ?, ?, '{}', 0, 0, 0, ${NOW_MS}, ${NOW_MS})`,
      id,
      JSON.stringify(region === null ? [] : [region]),
      region,
      address,
    );
  };

  const joined = (token: JoinToken, nodeId: string, isAgain: boolean): JoinOutcome => {
    const row = connection.get(`${SELECT_NODES} WHERE id = ?`, nodeId);
    if (row === undefined) return { kind: "refused", reason: "forgotten" };
    return { kind: "joined", node: toNode(row), token: { ...token, nodeId }, isAgain };
  };

  const listAuthorities = () => connection.all("SELECT * FROM authorities ORDER BY number").map(toAuthority);
  const listBelieved = () => listAuthorities().filter(({ privateKey }) => privateKey !== null);

  return {
    async authorities() {
      return listAuthorities();
    },

    async makeAuthority({ certificate, privateKey }, event) {
      return connection.transaction(() => {
        const sql =
          "INSERT INTO authorities (number, certificate, private_key) VALUES (1, ?, ?) ON CONFLICT DO NOTHING";
        if (connection.run(sql, certificate, privateKey) > 0) writeEvent(connection, event);
        return listAuthorities();
      });
    },

    async addAuthority({ certificate, privateKey }, beside, event) {
      return connection.transaction(() => {
        const [only, another] = listBelieved();
        if (only?.number !== beside || another !== undefined) return false;
        const sql = "INSERT INTO authorities (number, certificate, private_key) VALUES (?, ?, ?)";
        connection.run(sql, beside + 1, certificate, privateKey);
        writeEvent(connection, event);
        return true;
      });
    },

    async retireAuthority(number, isLockingOut, event) {
      return connection.transaction((): RetireOutcome => {
        const [older, newest] = listBelieved();
        if (older?.number !== number || newest === undefined) return { kind: "stale" };
        const sql = `SELECT id FROM nodes WHERE ${IS_REMOTE} AND certificate_authority IS NOT ? ORDER BY id`;
        const nodeIds = connection.all(sql, newest.number).map(({ id }) => String(id));
        if (nodeIds.length > 0 && !isLockingOut) return { kind: "refused", nodeIds };
        connection.run("UPDATE authorities SET private_key = NULL WHERE number = ?", number);
        connection.run("DELETE FROM join_tokens");
        writeEvent(connection, event);
        return { kind: "retired" };
      });
    },

    async createToken({ id, region }, hash, lifetimeMs, event) {
      return connection.transaction(() => {
        const row = connection.get(
          `INSERT INTO join_tokens (id, hash, region, created_at_ms, expires_at_ms) VALUES (?, ?, ?, ${NOW_MS}, ${NOW_MS} + ?) RETURNING *`,
          id,
          hash,
          region,
          lifetimeMs,
        );
        writeEvent(connection, event);
        return toJoinToken(row ?? {});
      });
    },

    async listTokens() {
      return connection
        .all(`SELECT * FROM join_tokens WHERE expires_at_ms > ${NOW_MS} ORDER BY created_at_ms DESC, id`)
        .map(toJoinToken);
    },

    async revokeToken(id, event) {
      return connection.transaction(() => {
        const revoked = connection.run(`DELETE FROM join_tokens WHERE id = ? AND expires_at_ms > ${NOW_MS}`, id);
        if (revoked > 0) writeEvent(connection, event);
        return revoked > 0;
      });
    },

    async join(hash, { nodeId, keyFingerprint, address, isNode = false }, event) {
      return connection.transaction((): JoinOutcome => {
        const row = connection.get(
          `SELECT *, expires_at_ms > ${NOW_MS} AS is_valid FROM join_tokens WHERE hash = ?`,
          hash,
        );
        if (row === undefined) return { kind: "refused", reason: "unknown" };
        if (row.is_valid !== 1) return { kind: "refused", reason: "expired" };
        const token = toJoinToken(row);
        if (token.nodeId !== null) {
          if (row.key_fingerprint !== keyFingerprint) return { kind: "refused", reason: "used" };
          connection.run(`UPDATE nodes SET ${JOINED_AGAIN} WHERE id = ?`, address, token.nodeId);
          return joined(token, token.nodeId, true);
        }
        if (isNode) {
          const sql = `UPDATE nodes SET ${JOINED_AGAIN} WHERE id = ? AND lost_at_ms IS NULL`;
          if (connection.run(sql, address, nodeId) === 0) return { kind: "refused", reason: "forgotten" };
        }
        connection.run(
          "UPDATE join_tokens SET key_fingerprint = ?, node_id = ? WHERE id = ?",
          keyFingerprint,
          nodeId,
          token.id,
        );
        if (!isNode) insertNode(nodeId, token.region, address);
        writeEvent(connection, event);
        return joined(token, nodeId, false);
      });
    },

    async expireTokens(beforeMs) {
      connection.run("DELETE FROM join_tokens WHERE expires_at_ms < ?", beforeMs);
    },
  };
}
