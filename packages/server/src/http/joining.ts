import type { IncomingHttpHeaders } from "node:http";
import { CaissonError } from "@caisson/model";
import { ErrorSchema } from "@caisson/protocol";
import { Type } from "typebox";
import type { AppContext } from "../app/context.ts";
import { createJoinToken, listJoinTokens, revokeJoinToken } from "../app/nodes/join-tokens.ts";
import { joinNode } from "../app/nodes/node-join.ts";
import type { JoinToken } from "../app/records.ts";
import { IdParams } from "./disk-routes.ts";
import { type Http, originOf } from "./request.ts";

const errors = { "4xx": ErrorSchema, "5xx": ErrorSchema };
const tags = ["administration"];
const DEFAULT_LIFETIME_SECONDS = 3600;

const OptionalText = (description: string) => Type.Union([Type.String(), Type.Null()], { description });
const TokenSchema = Type.Object({
  id: Type.String(),
  region: OptionalText("The only region that the node may have; null: those in its settings"),
  created_at: Type.String({ format: "date-time" }),
  expires_at: Type.String({ format: "date-time" }),
  node_id: OptionalText("Who has used it; null: nobody yet"),
});
const CreatedTokenSchema = Type.Object({
  ...TokenSchema.properties,
  token: Type.String({ description: "For `caisson up --role node --join`; it is not shown again" }),
  server_url: Type.String({ description: "Where the machine reaches this server, as the token says" }),
});

/** How machines become nodes: tokens, for administrators, and the call of a machine that has one. */
export function joiningRoutes(app: AppContext, http: Http): void {
  http.get(
    "/api/v1/nodes/tokens",
    {
      schema: {
        tags,
        summary: "List the tokens for joining that have not expired",
        response: { 200: Type.Array(TokenSchema), ...errors },
      },
    },
    async ({ actor }) => (await listJoinTokens(app, actor)).map(showToken),
  );
  http.post(
    "/api/v1/nodes/tokens",
    {
      schema: {
        tags,
        summary: "Make a token with which one machine joins as a node, once",
        body: Type.Object({
          expires_seconds: Type.Optional(
            Type.Integer({ description: "How long it is good, in whole seconds, at most 30 days; default 3600" }),
          ),
          region: Type.Optional(
            Type.String({ description: "The only region that the node may have; default: those in its settings" }),
          ),
        }),
        response: { 200: CreatedTokenSchema, ...errors },
      },
    },
    async (request) => {
      const { expires_seconds: seconds = DEFAULT_LIFETIME_SECONDS, region = null } = request.body;
      const url = originOf(app, request);
      const { token, text } = await createJoinToken(app, request.actor, { lifetimeMs: seconds * 1000, region, url });
      return { ...showToken(token), token: text, server_url: url };
    },
  );
  http.delete(
    "/api/v1/nodes/tokens/:id",
    {
      schema: {
        tags,
        summary: "Revoke a token for joining; a node that has joined with it stays",
        params: IdParams,
        response: { 204: Type.Null(), ...errors },
      },
    },
    async ({ actor, params }, reply) => {
      await revokeJoinToken(app, actor, params.id);
      return reply.status(204).send(null);
    },
  );
  http.post(
    "/v3/nodes/join",
    {
      config: { isPublic: true },
      // Before the body is looked at: nobody without a token is told what is wrong with it.
      preValidation: async ({ headers }) => {
        secretOf(headers);
      },
      schema: {
        tags,
        summary: "Join as a node, with a token for joining as authorization; again with the same key is the same node",
        body: Type.Object({
          signing_request: Type.String({ maxLength: 8192, description: "PKCS #10 in PEM form, of a key on P-256" }),
          address: Type.String({ maxLength: 300, description: "HOST:PORT where the server reaches the node" }),
          certificate: Type.Optional(
            Type.String({
              maxLength: 8192,
              description:
                "In PEM form, of a machine that is a node already, for the same key: it stays that node. It may have expired",
            }),
          ),
        }),
        response: {
          200: Type.Object({
            node_id: Type.String(),
            certificate: Type.String({ description: "In PEM form" }),
            authority: Type.String({ description: "Certificate of the authority, in PEM form" }),
            region: OptionalText("The only region that the node may have; null: those in its settings"),
          }),
          ...errors,
        },
      },
    },
    async ({ headers, body }) => {
      const joined = await joinNode(app, secretOf(headers), {
        signingRequest: body.signing_request,
        address: body.address,
        certificate: body.certificate ?? null,
      });
      const { nodeId, certificate, authority, region } = joined;
      return { node_id: nodeId, certificate, authority, region };
    },
  );
}

function showToken(token: JoinToken) {
  return {
    id: token.id,
    region: token.region,
    created_at: new Date(token.createdAtMs).toISOString(),
    expires_at: new Date(token.expiresAtMs).toISOString(),
    node_id: token.nodeId,
  };
}

function secretOf({ authorization = "" }: IncomingHttpHeaders): string {
  const secret = /^Bearer (\S+)$/i.exec(authorization)?.[1];
  if (secret === undefined) throw new CaissonError("INVALID_TOKEN", "Joining needs a token for joining");
  return secret;
}
