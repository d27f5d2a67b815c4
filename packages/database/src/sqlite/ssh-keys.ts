import { toSshKey } from "../records.ts";
import { sshKeyKnown } from "../refusals.ts";
import type { SshKeyStore } from "../store.ts";
import { type Connection, isUniqueViolation } from "./connection.ts";
import { writeEvent } from "./events.ts";

export function createSshKeyStore(connection: Connection): SshKeyStore {
  return {
    async add(key, event) {
      try {
        connection.transaction(() => {
          connection.run(
            "INSERT INTO ssh_keys (id, organization_id, name, type, public_key, fingerprint, created_at_ms) VALUES (?, ?, ?, ?, ?, ?, ?)",
            key.id,
            key.organizationId,
            key.name,
            key.type,
            key.publicKey,
            key.fingerprint,
            key.createdAtMs,
          );
          writeEvent(connection, event);
        });
      } catch (error) {
        throw isUniqueViolation(error, "ssh_keys.fingerprint") ? sshKeyKnown(key.fingerprint, error) : error;
      }
    },

    async list(organizationId) {
      return connection
        .all("SELECT * FROM ssh_keys WHERE organization_id = ? ORDER BY created_at_ms DESC, id", organizationId)
        .map(toSshKey);
    },

    async find(organizationId, fingerprint) {
      const row = connection.get(
        "SELECT * FROM ssh_keys WHERE organization_id = ? AND fingerprint = ?",
        organizationId,
        fingerprint,
      );
      return row === undefined ? null : toSshKey(row);
    },

    async remove(organizationId, id, event) {
      return connection.transaction(() => {
        const isRemoved =
          connection.run("DELETE FROM ssh_keys WHERE organization_id = ? AND id = ?", organizationId, id) > 0;
        if (isRemoved) writeEvent(connection, event);
        return isRemoved;
      });
    },
  };
}
