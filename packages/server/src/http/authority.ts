import { ErrorSchema } from "@caisson/protocol";
import { type Static, Type } from "typebox";
import type { AppContext } from "../app/context.ts";
import { type AuthorityState, getAuthority } from "../app/nodes/authority-get.ts";
import { renewAuthority } from "../app/nodes/authority-renew.ts";
import { retireAuthority } from "../app/nodes/authority-retire.ts";
import type { Http } from "./request.ts";

const errors = { "4xx": ErrorSchema, "5xx": ErrorSchema };
const tags = ["administration"];

const AuthoritySchema = Type.Object({
  authorities: Type.Array(
    Type.Object({
      number: Type.Integer({ description: "From 1 on, in the order in which they were made" }),
      fingerprint: Type.String({ description: "SHA-256 of its certificate, in hex, as tokens for joining have it" }),
      expires_at: Type.String({ format: "date-time" }),
    }),
    {
      description:
        "Those that are believed, the oldest first. Empty: none was made yet. Two: it is being renewed, and nodes get certificates of the second one",
    },
  ),
  waiting_nodes: Type.Array(Type.String(), {
    description:
      "Nodes whose certificate is not known to be of the newest authority: with two, those that would be locked out if the old one were retired; with one, those that are",
  }),
});

/** The authority that signs for nodes and servers: for administrators. */
export function authorityRoutes(app: AppContext, http: Http): void {
  http.get(
    "/api/v1/nodes/authority",
    {
      schema: {
        tags,
        summary: "Get the authority that signs for nodes and servers, and how far its renewal is",
        response: { 200: AuthoritySchema, ...errors },
      },
    },
    async ({ actor }) => show(await getAuthority(app, actor)),
  );
  http.post(
    "/api/v1/nodes/authority/renew",
    {
      schema: {
        tags,
        summary: "Make a new authority, which is believed beside the old one, and give each node a certificate of it",
        response: { 200: AuthoritySchema, ...errors },
      },
    },
    async ({ actor }) => show(await renewAuthority(app, actor)),
  );
  http.post(
    "/api/v1/nodes/authority/retire",
    {
      schema: {
        tags,
        summary: "Retire the old one of two authorities, with the tokens for joining, which name it",
        body: Type.Object({
          lock_out: Type.Optional(
            Type.Boolean({
              description:
                "Also if that locks out nodes, which come back by joining again, as the nodes that they are. Default: false",
            }),
          ),
        }),
        response: { 200: AuthoritySchema, ...errors },
      },
    },
    async ({ actor, body }) => show(await retireAuthority(app, actor, { isLockingOut: body.lock_out ?? false })),
  );
}

function show({ believed, waitingNodeIds }: AuthorityState): Static<typeof AuthoritySchema> {
  return {
    authorities: believed.map(({ number, fingerprint, expiresAtMs }) => ({
      number,
      fingerprint,
      expires_at: new Date(expiresAtMs).toISOString(),
    })),
    waiting_nodes: [...waitingNodeIds],
  };
}
