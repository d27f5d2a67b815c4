import type { AuditEvent, Organization, Token } from "@caisson/database";
import { CaissonError } from "@caisson/model";
import { ErrorSchema } from "@caisson/protocol";
import { Type } from "typebox";
import type { Actor, AppContext } from "../app/context.ts";
import { createOrganization, createToken } from "../app/tokens.ts";
import { ADMIN_ORGANIZATION } from "../credentials.ts";
import { IdParams } from "./disk-routes.ts";
import type { Http } from "./request.ts";

const errors = { "4xx": ErrorSchema, "5xx": ErrorSchema };
const tags = ["administration"];
const MAX_EVENTS = 200;

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
    async (request) => (await app.store.organizations.listTokens(request.actor.organization.id)).map(showToken),
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
    async (request) => {
      const { name, organization } = request.body;
      const { token, text } = await createToken(app, await targetOrganization(app, request.actor, organization), name);
      return { ...showToken(token), token: text };
    },
  );
  http.delete(
    "/api/v1/tokens/:id",
    { schema: { tags, summary: "Revoke a token", params: IdParams, response: { 204: Type.Null(), ...errors } } },
    async (request, reply) => {
      const isRevoked = await app.store.organizations.revokeToken(
        request.actor.organization.id,
        request.params.id,
        Date.now(),
      );
      if (!isRevoked)
        throw new CaissonError(
          "NOT_FOUND",
          `There is no token ${JSON.stringify(request.params.id)}: list the tokens for their ids`,
        );
      return reply.status(204).send(null);
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
    async ({ actor }) =>
      (isAdmin(actor) ? await app.store.organizations.list() : [actor.organization]).map(showOrganization),
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
    async (request) => {
      requireAdmin(request.actor);
      return showOrganization(await createOrganization(app, request.body.slug));
    },
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
    async (request) =>
      (await app.store.events.list(request.actor.organization.id, request.query.object ?? null, MAX_EVENTS)).map(
        showEvent,
      ),
  );
}

async function targetOrganization(app: AppContext, actor: Actor, named: string | undefined): Promise<string> {
  if (named === undefined || named === actor.organization.slug || named === actor.organization.id)
    return actor.organization.id;
  requireAdmin(actor);
  const organization = await app.store.organizations.get(named);
  if (organization !== null) return organization.id;
  throw new CaissonError("NOT_FOUND", `There is no organization ${JSON.stringify(named.slice(0, 64))}`);
}

function isAdmin(actor: Actor): boolean {
  return actor.organization.slug === ADMIN_ORGANIZATION;
}

function requireAdmin(actor: Actor): void {
  if (!isAdmin(actor))
    throw new CaissonError(
      "FORBIDDEN",
      `Only tokens of the organization "${ADMIN_ORGANIZATION}" may manage organizations`,
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
