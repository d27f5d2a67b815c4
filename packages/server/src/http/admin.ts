import { ErrorSchema } from "@caisson/protocol";
import { Type } from "typebox";
import { listEvents } from "../app/access/event-list.ts";
import { createOrganization } from "../app/access/organization-create.ts";
import { listOrganizations } from "../app/access/organization-list.ts";
import { createToken } from "../app/access/token-create.ts";
import { listTokens } from "../app/access/token-list.ts";
import { revokeToken } from "../app/access/token-revoke.ts";
import { rotateToken } from "../app/access/token-rotate.ts";
import type { AppContext } from "../app/context.ts";
import type { AuditEvent, Organization, Token } from "../app/records.ts";
import { IdParams } from "./disk-routes.ts";
import type { Http } from "./request.ts";

const errors = { "4xx": ErrorSchema, "5xx": ErrorSchema };
const tags = ["administration"];

const Timestamp = Type.String({ format: "date-time" });
const OrganizationSchema = Type.Object({ id: Type.String(), slug: Type.String(), created_at: Timestamp });
const TokenSchema = Type.Object({
  id: Type.String(),
  name: Type.String(),
  organization_id: Type.String(),
  created_at: Timestamp,
});
const CreatedTokenSchema = Type.Object({
  ...TokenSchema.properties,
  token: Type.String({ description: "Shown once" }),
});
const EventSchema = Type.Object({
  at: Timestamp,
  actor: Type.String({ description: "Token id, or server" }),
  verb: Type.String(),
  object_id: Type.String(),
  outcome: Type.String(),
  detail: Type.Record(Type.String(), Type.Unknown()),
});

/**
 * Tokens of the caller's organization and its audit trail. Tokens of the organization that the server was set up with also make organizations,
 * and tokens for any of them.
 */
export function adminRoutes(app: AppContext, http: Http): void {
  http.get(
    "/api/v1/tokens",
    {
      schema: {
        tags,
        summary: "List the organization's tokens",
        response: { 200: Type.Array(TokenSchema), ...errors },
      },
    },
    async ({ actor }) => (await listTokens(app, actor)).map(showToken),
  );
  http.post(
    "/api/v1/tokens",
    {
      schema: {
        tags,
        summary: "Create a token; its text is shown once",
        body: Type.Object({
          name: Type.String(),
          organization: Type.Optional(Type.String({ description: "Id or slug; default: the caller's" })),
        }),
        response: { 200: CreatedTokenSchema, ...errors },
      },
    },
    async ({ actor, body: { name, organization } }) => {
      const { token, text } = await createToken(app, actor, name, organization ?? null);
      return { ...showToken(token), token: text };
    },
  );
  http.delete(
    "/api/v1/tokens/:id",
    {
      schema: {
        tags,
        summary: "Revoke a token, and end the connections that it opened",
        params: IdParams,
        response: { 204: Type.Null(), ...errors },
      },
    },
    async (request, reply) => {
      await revokeToken(app, request.actor, request.params.id);
      return reply.status(204).send(null);
    },
  );
  http.post(
    "/api/v1/tokens/:id/rotate",
    {
      schema: {
        tags,
        summary:
          "Put a new token in the place of this one, or with `self` of the one that asks; the old one is revoked",
        params: IdParams,
        response: { 200: CreatedTokenSchema, ...errors },
      },
    },
    async ({ actor, params: { id } }) => {
      const { token, text } = await rotateToken(app, actor, id === "self" ? null : id);
      return { ...showToken(token), token: text };
    },
  );
  http.get(
    "/api/v1/organizations",
    {
      schema: {
        tags,
        summary: "List organizations that the caller may see",
        response: { 200: Type.Array(OrganizationSchema), ...errors },
      },
    },
    async ({ actor }) => (await listOrganizations(app, actor)).map(showOrganization),
  );
  http.post(
    "/api/v1/organizations",
    {
      schema: {
        tags,
        summary: "Create an organization",
        body: Type.Object({ slug: Type.String() }),
        response: { 200: OrganizationSchema, ...errors },
      },
    },
    async ({ actor, body }) => showOrganization(await createOrganization(app, actor, body.slug)),
  );
  http.get(
    "/api/v1/events",
    {
      schema: {
        tags,
        summary: "The audit trail, newest first",
        querystring: Type.Object({
          object: Type.Optional(Type.String({ description: "Id of a volume, snapshot or sandbox" })),
        }),
        response: { 200: Type.Array(EventSchema), ...errors },
      },
    },
    async ({ actor, query }) => (await listEvents(app, actor, query.object ?? null)).map(showEvent),
  );
}

function showToken(token: Token) {
  return {
    id: token.id,
    name: token.name,
    organization_id: token.organizationId,
    created_at: new Date(token.createdAtMs).toISOString(),
  };
}

function showOrganization(organization: Organization) {
  return { id: organization.id, slug: organization.slug, created_at: new Date(organization.createdAtMs).toISOString() };
}

function showEvent(event: AuditEvent) {
  return {
    at: new Date(event.atMs).toISOString(),
    actor: event.actor,
    verb: event.verb,
    object_id: event.objectId,
    outcome: event.outcome,
    detail: event.detail,
  };
}
