import type { ImageKind, ImageRecord } from "@caisson/database";
import { CaissonError } from "@caisson/model";
import { DescendantSchema, ErrorSchema, HEADERS, RestoreSchema, UpdateLabelsSchema } from "@caisson/protocol";
import type { FastifyReply, FastifyRequest } from "fastify";
import { type TSchema, Type } from "typebox";
import { type AppContext, requireImage } from "../app/context.ts";
import { deleteImage, labelImage, restoreImage } from "../app/image-delete.ts";
import { refreshUsage } from "../app/usage.ts";
import { parseLabelFilter } from "./label-filter.ts";
import { lastValue, nextLink, parsePage } from "./pagination.ts";
import { descendant } from "./representations.ts";
import { type Http, isExtended, originOf } from "./server.ts";

export const IdParams = Type.Object({ id: Type.String({ description: "Id or slug" }) });

const Repeatable = Type.Union([Type.String(), Type.Array(Type.String())]);

/** Query of the lists of volumes and snapshots. Labels filter as `labels[key]=value`. */
const ListQuery = Type.Object({
  limit: Type.Optional(Repeatable),
  cursor: Type.Optional(Repeatable),
  search: Type.Optional(Repeatable),
  deleted: Type.Optional(Repeatable),
});

export const errors = { "4xx": ErrorSchema, "5xx": ErrorSchema };
const MAX_DESCENDANTS = 1000;

/** What differs between volumes and snapshots in the routes that both have. */
export interface ImageRoutes {
  readonly kind: ImageKind;
  /** Schema of the representations that `show` makes. */
  readonly schema: TSchema;
  readonly show: (request: FastifyRequest, image: ImageRecord) => Promise<object>;
  /** What a deletion means, for the description. */
  readonly deletion: string;
}

/** The routes that volumes and snapshots share (protocol.md 2.2), and what Caisson adds to both: labels, restore, descendants. */
export function imageRoutes(app: AppContext, http: Http, routes: ImageRoutes): void {
  const { kind, schema: Image, show, deletion } = routes;
  const path = `/api/v2/${kind}s`;
  const tags = [`${kind}s`];

  http.get(
    path,
    {
      schema: {
        tags,
        summary: `List ${kind}s, newest first`,
        querystring: ListQuery,
        response: { 200: Type.Array(Image), ...errors },
      },
    },
    (request, reply) => listImages(app, request, reply, kind, show),
  );
  http.get(
    `${path}/:id`,
    { schema: { tags, summary: `Get a ${kind} by id or slug`, params: IdParams, response: { 200: Image, ...errors } } },
    async (request) => {
      const image = await requireImage(app, request.actor, kind, request.params.id);
      return show(request, isExtended(request) ? await refreshUsage(app, image) : image);
    },
  );
  http.patch(
    `${path}/:id`,
    {
      schema: {
        tags,
        summary: `Replace a ${kind}'s labels`,
        params: IdParams,
        body: UpdateLabelsSchema,
        response: { 200: Image, ...errors },
      },
    },
    async (request) =>
      show(request, await labelImage(app, request.actor, kind, request.params.id, request.body.labels)),
  );
  http.delete(
    `${path}/:id`,
    { schema: { tags, summary: deletion, params: IdParams, response: { 204: Type.Null(), ...errors } } },
    async (request, reply) => {
      await deleteImage(app, request.actor, kind, request.params.id);
      return reply.status(204).send(null);
    },
  );
  http.post(
    `${path}/:id/restore`,
    {
      schema: {
        tags,
        summary: `Restore a deleted ${kind} by id`,
        params: IdParams,
        body: RestoreSchema,
        response: { 200: Image, ...errors },
      },
    },
    async (request) =>
      show(request, await restoreImage(app, request.actor, kind, request.params.id, request.body.slug)),
  );
  http.get(
    `${path}/:id/descendants`,
    {
      schema: {
        tags,
        summary: `Volumes and snapshots made from a ${kind}`,
        params: IdParams,
        response: { 200: Type.Array(DescendantSchema), ...errors },
      },
    },
    async (request) => {
      const { id, organizationId } = await requireImage(app, request.actor, kind, request.params.id);
      return (await app.store.images.descendants(organizationId, id, MAX_DESCENDANTS)).map(descendant);
    },
  );
}

/** One page of volumes or snapshots, with the link to the next one. */
async function listImages<T extends object>(
  app: AppContext,
  request: FastifyRequest,
  reply: FastifyReply,
  kind: ImageKind,
  show: (request: FastifyRequest, image: ImageRecord) => Promise<T>,
): Promise<T[]> {
  const query = request.query as Readonly<Record<string, unknown>>;
  const page = parsePage(query);
  const images = await app.store.images.list({
    organizationId: request.actor.organization.id,
    kind,
    isDeleted: lastValue(query.deleted) === "true",
    labels: parseLabelFilter(query),
    search: lastValue(query.search) ?? "",
    ...page,
    // One more than asked for tells whether there is a next page.
    limit: page.limit + 1,
  });
  const shown = images.slice(0, page.limit);
  const last = shown.at(-1);
  if (images.length > page.limit && last !== undefined) {
    const path = request.url.split("?")[0] ?? "";
    reply.header("Link", nextLink(originOf(app, request), path, query, last.sequence, page.limit));
  }
  return Promise.all(shown.map((image) => show(request, image)));
}

const MAX_KEY_LENGTH = 255;

/** The client's key for this request, so that a repeat of it makes nothing twice. */
export function idempotencyKey(request: FastifyRequest): string | undefined {
  const key = request.headers[HEADERS.idempotencyKey];
  if (key === undefined) return undefined;
  if (typeof key === "string" && key !== "" && key.length <= MAX_KEY_LENGTH) return key;
  throw new CaissonError("INVALID_REQUEST", `The header Idempotency-Key must be 1 to ${MAX_KEY_LENGTH} characters`);
}
