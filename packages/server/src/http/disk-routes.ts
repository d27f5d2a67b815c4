import type { Disk, DiskKind } from "@caisson/database";
import { CaissonError } from "@caisson/model";
import { DescendantSchema, ErrorSchema, HEADERS, RestoreSchema, UpdateLabelsSchema } from "@caisson/protocol";
import type { FastifyReply, FastifyRequest } from "fastify";
import { type TSchema, Type } from "typebox";
import { type AppContext, requireDisk } from "../app/context.ts";
import { deleteDisk } from "../app/disk-delete.ts";
import { labelDisk } from "../app/disk-label.ts";
import { restoreDisk } from "../app/disk-restore.ts";
import { refreshUsage } from "../app/usage.ts";
import { parseLabelFilter } from "./label-filter.ts";
import { lastValue, nextLink, parsePage } from "./pagination.ts";
import { descendant } from "./representations.ts";
import { type Http, isExtended, originOf } from "./request.ts";

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
export interface DiskRoutes {
  readonly kind: DiskKind;
  /** Schema of the representations that `show` makes. */
  readonly schema: TSchema;
  readonly show: (request: FastifyRequest, disk: Disk) => Promise<object>;
  /** What a deletion means, for the description. */
  readonly deletion: string;
}

/** The routes that volumes and snapshots share (protocol.md 2.2), and what Caisson adds to both: labels, restore, descendants. */
export function diskRoutes(app: AppContext, http: Http, routes: DiskRoutes): void {
  const { kind, schema: DiskSchema, show, deletion } = routes;
  const path = `/api/v2/${kind}s`;
  const tags = [`${kind}s`];

  http.get(
    path,
    {
      schema: {
        tags,
        summary: `List ${kind}s, newest first`,
        querystring: ListQuery,
        response: { 200: Type.Array(DiskSchema), ...errors },
      },
    },
    (request, reply) => listDisks(app, request, reply, kind, show),
  );
  http.get(
    `${path}/:id`,
    {
      schema: {
        tags,
        summary: `Get a ${kind} by id or slug`,
        params: IdParams,
        response: { 200: DiskSchema, ...errors },
      },
    },
    async (request) => {
      const disk = await requireDisk(app, request.actor, kind, request.params.id);
      return show(request, isExtended(request) ? await refreshUsage(app, disk) : disk);
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
        response: { 200: DiskSchema, ...errors },
      },
    },
    async (request) => show(request, await labelDisk(app, request.actor, kind, request.params.id, request.body.labels)),
  );
  http.delete(
    `${path}/:id`,
    { schema: { tags, summary: deletion, params: IdParams, response: { 204: Type.Null(), ...errors } } },
    async (request, reply) => {
      await deleteDisk(app, request.actor, kind, request.params.id);
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
        response: { 200: DiskSchema, ...errors },
      },
    },
    async (request) => show(request, await restoreDisk(app, request.actor, kind, request.params.id, request.body.slug)),
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
      const { id, organizationId } = await requireDisk(app, request.actor, kind, request.params.id);
      return (await app.store.disks.descendants(organizationId, id, MAX_DESCENDANTS)).map(descendant);
    },
  );
}

/** One page of volumes or snapshots, with the link to the next one. */
async function listDisks<T extends object>(
  app: AppContext,
  request: FastifyRequest,
  reply: FastifyReply,
  kind: DiskKind,
  show: (request: FastifyRequest, disk: Disk) => Promise<T>,
): Promise<T[]> {
  const query = request.query as Readonly<Record<string, unknown>>;
  const page = parsePage(query);
  const disks = await app.store.disks.list({
    organizationId: request.actor.organization.id,
    kind,
    isDeleted: lastValue(query.deleted) === "true",
    labels: parseLabelFilter(query),
    search: lastValue(query.search) ?? "",
    ...page,
    // One more than asked for tells whether there is a next page.
    limit: page.limit + 1,
  });
  const shown = disks.slice(0, page.limit);
  const last = shown.at(-1);
  if (disks.length > page.limit && last !== undefined) {
    const path = request.url.split("?")[0] ?? "";
    reply.header("Link", nextLink(originOf(app, request), path, query, last.sequence, page.limit));
  }
  return Promise.all(shown.map((disk) => show(request, disk)));
}

const MAX_KEY_LENGTH = 255;

/** The client's key for this request, so that a repeat of it makes nothing twice. */
export function idempotencyKey(request: FastifyRequest): string | undefined {
  const key = request.headers[HEADERS.idempotencyKey];
  if (key === undefined) return undefined;
  if (typeof key === "string" && key !== "" && key.length <= MAX_KEY_LENGTH) return key;
  throw new CaissonError("INVALID_REQUEST", `The header Idempotency-Key must be 1 to ${MAX_KEY_LENGTH} characters`);
}
