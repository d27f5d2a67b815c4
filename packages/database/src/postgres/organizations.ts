import { toOrganization, toToken, toTokenOwner } from "../records.ts";
import { organizationSlugTaken } from "../refusals.ts";
import type { AuditEvent, OrganizationStore, Token } from "../store.ts";
import type { Database, Queries } from "./database.ts";
import { changeWithEvent } from "./events.ts";
import { isViolation } from "./failures.ts";

export function createOrganizationStore(database: Database): OrganizationStore {
  const insertToken = async (queries: Queries, token: Token, hash: Uint8Array, event: AuditEvent): Promise<void> => {
    const { id, organizationId, name, createdAtMs } = token;
    await changeWithEvent(
      queries,
      "INSERT INTO tokens (id, organization_id, name, hash, created_at_ms) VALUES ($1, $2, $3, $4, $5)",
      [id, organizationId, name, hash, createdAtMs],
      event,
    );
  };
  const REVOKE =
    "UPDATE tokens SET revoked_at_ms = $1 WHERE organization_id = $2 AND id = $3 AND revoked_at_ms IS NULL";

  return {
    async create({ id, slug, createdAtMs }, event) {
      try {
        await database.transaction((queries) =>
          changeWithEvent(
            queries,
            "INSERT INTO organizations (id, slug, created_at_ms) VALUES ($1, $2, $3)",
            [id, slug, createdAtMs],
            event,
          ),
        );
      } catch (error) {
        throw isViolation(error, "organizations_slug") ? organizationSlugTaken(slug, error) : error;
      }
    },

    async get(idOrSlug) {
      const row = await database.read((queries) =>
        queries.get("SELECT * FROM organizations WHERE id = $1 OR slug = $1", idOrSlug),
      );
      return row === undefined ? null : toOrganization(row);
    },

    async list() {
      return (await database.read((queries) => queries.all("SELECT * FROM organizations ORDER BY slug"))).map(
        toOrganization,
      );
    },

    async createToken(token, hash, event) {
      await database.transaction((queries) => insertToken(queries, token, hash, event));
    },

    async isTokenKnown(hash) {
      const row = await database.read((queries) => queries.get("SELECT 1 FROM tokens WHERE hash = $1", hash));
      return row !== undefined;
    },

    async findToken(hash) {
      const row = await database.read((queries) =>
        queries.get(
          `SELECT tokens.*, organizations.slug AS organization_slug, organizations.created_at_ms AS organization_created_at_ms
           FROM tokens JOIN organizations ON organizations.id = tokens.organization_id WHERE hash = $1 AND revoked_at_ms IS NULL`,
          hash,
        ),
      );
      return row === undefined ? null : toTokenOwner(row);
    },

    async listTokens(organizationId) {
      const rows = await database.read((queries) =>
        queries.all(
          "SELECT * FROM tokens WHERE organization_id = $1 AND revoked_at_ms IS NULL ORDER BY created_at_ms DESC, id",
          organizationId,
        ),
      );
      return rows.map(toToken);
    },

    async revokeToken(organizationId, tokenId, nowMs, event) {
      const row = await database.transaction((queries) =>
        changeWithEvent(queries, REVOKE, [nowMs, organizationId, tokenId], event),
      );
      return row !== undefined;
    },

    async rotateToken(tokenId, token, hash, event) {
      return database.transaction(async (queries) => {
        if ((await queries.run(REVOKE, token.createdAtMs, token.organizationId, tokenId)) === 0) return false;
        await insertToken(queries, token, hash, event);
        return true;
      });
    },
  };
}
