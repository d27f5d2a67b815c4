import { toSshKey } from "../records.ts";
import { sshKeyKnown } from "../refusals.ts";
import type { SshKeyStore } from "../store.ts";
import type { Database } from "./database.ts";
import { changeWithEvent } from "./events.ts";
import { isViolation } from "./failures.ts";

export function createSshKeyStore(database: Database): SshKeyStore {
  return {
    async add({ id, organizationId, name, type, publicKey, fingerprint, createdAtMs }, event) {
      try {
        await database.transaction((queries) =>
          changeWithEvent(
            queries,
            "INSERT INTO ssh_keys (id, organization_id, name, type, public_key, fingerprint, created_at_ms) VALUES ($1, $2, $3, $4, $5, $6, $7)",
            [id, organizationId, name, type, publicKey, fingerprint, createdAtMs],
            event,
          ),
        );
      } catch (error) {
        throw isViolation(error, "ssh_keys_fingerprint") ? sshKeyKnown(fingerprint, error) : error;
      }
    },

    async list(organizationId) {
      const rows = await database.read((queries) =>
        queries.all(
          "SELECT * FROM ssh_keys WHERE organization_id = $1 ORDER BY created_at_ms DESC, id",
          organizationId,
        ),
      );
      return rows.map(toSshKey);
    },

    async find(organizationId, fingerprint) {
      const row = await database.read((queries) =>
        queries.get(
          "SELECT * FROM ssh_keys WHERE organization_id = $1 AND fingerprint = $2",
          organizationId,
          fingerprint,
        ),
      );
      return row === undefined ? null : toSshKey(row);
    },

    async remove(organizationId, id, event) {
      const row = await database.transaction((queries) =>
        changeWithEvent(
          queries,
          "DELETE FROM ssh_keys WHERE organization_id = $1 AND id = $2",
          [organizationId, id],
          event,
        ),
      );
      return row !== undefined;
    },
  };
}
