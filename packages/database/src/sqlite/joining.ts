import { toAuthority, toJoinToken, toNode } from "../records.ts";
import type { JoiningStore, JoinOutcome, JoinToken } from "../store.ts";
import type { Connection } from "./connection.ts";
import { writeEvent } from "./events.ts";
import { NOW_MS, SELECT_NODES } from "./nodes.ts";

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

  return {
    async authority() {
      const row = connection.get("SELECT * FROM authority");
      return row === undefined ? null : toAuthority(row);
    },

    async makeAuthority(authority, event) {
      return connection.transaction(() => {
        const made = connection.run(
          "INSERT INTO authority (only_row, certificate, private_key) VALUES (1, ?, ?) ON CONFLICT DO NOTHING",
          authority.certificate,
          authority.privateKey,
        );
        if (made > 0) writeEvent(connection, event);
        return toAuthority(connection.get("SELECT * FROM authority") ?? {});
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
          connection.run("UPDATE nodes SET address = ? WHERE id = ?", address, token.nodeId);
          return joined(token, token.nodeId, true);
        }
        if (isNode) {
          const sql = "UPDATE nodes SET address = ? WHERE id = ? AND lost_at_ms IS NULL";
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
