import { toOrganization, toToken, toTokenOwner } from "../records.ts";
import { organizationSlugTaken } from "../refusals.ts";
import type { OrganizationStore, Token } from "../store.ts";
import { type Connection, isUniqueViolation } from "./connection.ts";
import { writeEvent } from "./events.ts";

export function createOrganizationStore(connection: Connection): OrganizationStore {
  const insertToken = (token: Token, hash: Uint8Array): void => {
    connection.run(
      "INSERT INTO tokens (id, organization_id, name, hash, created_at_ms) VALUES (?, ?, ?, ?, ?)",
      token.id,
      token.organizationId,
      token.name,
      hash,
      token.createdAtMs,
    );
  };
  const revoke = (organizationId: string, tokenId: string, nowMs: number): boolean =>
    connection.run(
      "UPDATE tokens SET revoked_at_ms = ? WHERE organization_id = ? AND id = ? AND revoked_at_ms IS NULL",
      nowMs,
      organizationId,
      tokenId,
    ) > 0;

  return {
    async create(organization, event) {
      try {
        connection.transaction(() => {
          connection.run(
            "INSERT INTO organizations (id, slug, created_at_ms) VALUES (?, ?, ?)",
            organization.id,
            organization.slug,
            organization.createdAtMs,
          );
          writeEvent(connection, event);
        });
      } catch (error) {
        throw isUniqueViolation(error, "organizations.slug") ? organizationSlugTaken(organization.slug, error) : error;
      }
    },

    async get(idOrSlug) {
      const row = connection.get("SELECT * FROM organizations WHERE id = ? OR slug = ?", idOrSlug, idOrSlug);
      return row === undefined ? null : toOrganization(row);
    },

    async list() {
      return connection.all("SELECT * FROM organizations ORDER BY slug").map(toOrganization);
    },

    async createToken(token, hash, event) {
      connection.transaction(() => {
        insertToken(token, hash);
        writeEvent(connection, event);
      });
    },

    async isTokenKnown(hash) {
      return connection.get("SELECT 1 FROM tokens WHERE hash = ?", hash) !== undefined;
    },

    async findToken(hash) {
      const row = connection.get(
        `SELECT tokens.*, organizations.slug AS organization_slug, organizations.created_at_ms AS organization_created_at_ms
         FROM tokens JOIN organizations ON organizations.id = tokens.organization_id WHERE hash = ? AND revoked_at_ms IS NULL`,
        hash,
      );
      return row === undefined ? null : toTokenOwner(row);
    },

    async listTokens(organizationId) {
      return connection
        .all(
          "SELECT * FROM tokens WHERE organization_id = ? AND revoked_at_ms IS NULL ORDER BY created_at_ms DESC, id",
          organizationId,
        )
        .map(toToken);
    },

    async revokeToken(organizationId, tokenId, nowMs, event) {
      return connection.transaction(() => {
        const isRevoked = revoke(organizationId, tokenId, nowMs);
        if (isRevoked) writeEvent(connection, event);
        return isRevoked;
      });
    },

    async rotateToken(tokenId, token, hash, event) {
      return connection.transaction(() => {
        if (!revoke(token.organizationId, tokenId, token.createdAtMs)) return false;
        insertToken(token, hash);
        writeEvent(connection, event);
        return true;
      });
    },
  };
}
