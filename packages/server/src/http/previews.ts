import { CaissonError } from "@caisson/model";
import {
  CreatedPreviewSchema,
  ErrorSchema,
  ExposeHttpSchema,
  PreviewLinkBodySchema,
  PreviewLinkSchema,
  PreviewSchema,
  type WirePreview,
} from "@caisson/protocol";
import { Type } from "typebox";
import type { AppContext } from "../app/context.ts";
import type { Preview, PreviewTarget } from "../app/previews/preview.ts";
import { createPreview } from "../app/previews/preview-create.ts";
import { listPreviews } from "../app/previews/preview-get.ts";
import { createPreviewLink } from "../app/previews/preview-link.ts";
import { revokePreview } from "../app/previews/preview-revoke.ts";
import { IdParams } from "./disk-routes.ts";
import type { Http } from "./request.ts";

const errors = { "4xx": ErrorSchema, "5xx": ErrorSchema };
const tags = ["previews"];
const DomainParams = Type.Object({
  id: Type.String(),
  domain: Type.String({ description: "With or without its port" }),
});
const URL = "/api/v3/sandbox/:id/expose/http";
const EDITOR_URL = "/api/v3/sandbox/:id/expose/vscode";
const DEFAULT_LINK_SECONDS = 3600;

/** Names under which servers inside sandboxes are reached (protocol.md 2.5); listing, revoking and links are ours. */
export function previewRoutes(app: AppContext, http: Http): void {
  http.post(
    URL,
    {
      schema: {
        tags,
        summary: "Reserve a host name for a server in a sandbox, and bind it to a port or a process if one is given",
        params: IdParams,
        body: ExposeHttpSchema,
        response: { 200: CreatedPreviewSchema, ...errors },
      },
    },
    async ({ actor, params, body }) => {
      const { preview, token } = await createPreview(app, actor, params.id, {
        target: targetOf(body.port ?? null, body.pid ?? null),
        isPrivate: body.private ?? false,
        isHostRewritten: body.rewrite_host ?? false,
      });
      return { ...wirePreview(app, preview), token };
    },
  );
  http.post(
    EDITOR_URL,
    {
      schema: {
        tags,
        summary: "Reserve a host name for an editor, which the RPC vscode has started",
        params: IdParams,
        response: { 200: CreatedPreviewSchema, ...errors },
      },
    },
    async ({ actor, params }) => {
      const { preview, token } = await createPreview(app, actor, params.id, {
        target: null,
        isPrivate: false,
        isHostRewritten: false,
      });
      return { ...wirePreview(app, preview), token };
    },
  );
  http.get(
    URL,
    {
      schema: {
        tags,
        summary: "List the previews of a sandbox",
        params: IdParams,
        response: { 200: Type.Array(PreviewSchema), ...errors },
      },
    },
    async ({ actor, params }) =>
      (await listPreviews(app, actor, params.id)).map((preview) => wirePreview(app, preview)),
  );
  http.delete(
    `${URL}/:domain`,
    {
      schema: {
        tags,
        summary: "Revoke a preview, and end every connection through it",
        params: DomainParams,
        response: { 204: Type.Null(), ...errors },
      },
    },
    async ({ actor, params }, reply) => {
      await revokePreview(app, actor, params.id, params.domain);
      return reply.status(204).send(null);
    },
  );
  http.post(
    `${URL}/:domain/link`,
    {
      schema: {
        tags,
        summary: "Sign a link that opens a private preview in a browser until it expires",
        params: DomainParams,
        body: PreviewLinkBodySchema,
        response: { 200: PreviewLinkSchema, ...errors },
      },
    },
    async ({ actor, params, body }) => {
      const { url, expiresAtMs } = await createPreviewLink(app, actor, params.id, params.domain, {
        lifetimeMs: (body.expires_in_seconds ?? DEFAULT_LINK_SECONDS) * 1000,
        path: body.path ?? "/",
      });
      return { url, expires_at: new Date(expiresAtMs).toISOString() };
    },
  );
}

function targetOf(port: number | null, pid: number | null): PreviewTarget | null {
  if (port !== null && pid !== null) throw new CaissonError("INVALID_REQUEST", "Give either a port or a pid, not both");
  if (port !== null) return { port };
  return pid === null ? null : { pid };
}

function wirePreview(app: AppContext, preview: Preview): WirePreview {
  const { target, key, isHostRewritten, createdAtMs } = preview;
  const domain = app.previews.authorityOf(preview);
  return {
    domain,
    url: `https://${domain}`,
    port: target !== null && "port" in target ? target.port : null,
    pid: target !== null && "pid" in target ? target.pid : null,
    private: key !== null,
    rewrite_host: isHostRewritten,
    created_at: new Date(createdAtMs).toISOString(),
  };
}
