import { CaissonError } from "@caisson/model";
import { DescendantSchema, ErrorSchema, HEADERS, RestoreSchema, UpdateLabelsSchema } from "@caisson/protocol";
import type { FastifyReply, FastifyRequest } from "fastify";
import { type TSchema, Type } from "typebox";
import type { AppContext } from "../app/context.ts";
import { deleteDisk, deleteDiskNow } from "../app/disks/disk-delete.ts";
import { listDescendants } from "../app/disks/disk-descendants.ts";
import { getDisk } from "../app/disks/disk-get.ts";
import { labelDisk } from "../app/disks/disk-label.ts";
import { listDisks } from "../app/disks/disk-list.ts";
import { purgeDiskNow } from "../app/disks/disk-purge-now.ts";
import { restoreDisk } from "../app/disks/disk-restore.ts";
import type { Disk, DiskKind } from "../app/records.ts";
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
  deleted: Type.Optional(
    Type.Union([Type.String(), Type.Array(Type.String())], {
      description: "true (or 1): the deleted ones that can still be restored. Default: false (or 0)",
    }),
  ),
});

const DeleteQuery = Type.Object({
  now: Type.Optional(
    Type.Union([Type.String(), Type.Array(Type.String())], {
      description: "true (or 1): for good; its space is free when this answers 204, and nothing can restore it",
    }),
  ),
});

/** A purge that waits for the sandboxes that run from the thing. */
const PurgingSchema = Type.Object({ id: Type.String(), status: Type.Literal("purging") });

export const errors = { "4xx": ErrorSchema, "5xx": ErrorSchema };

/** What differs between volumes and snapshots in the routes that both have. */
export interface DiskRoutes {
  readonly kind: DiskKind;
  /** Schema of the representations that `show` makes. */
  readonly schema: TSchema;
  /** Each in the form that the client asked for, in the same order. */
  readonly show: (request: FastifyRequest, disks: readonly Disk[]) => Promise<object[]>;
  /** What a deletion means, for the description. */
  readonly deletion: string;
}

/** The routes that volumes and snapshots share (protocol.md 2.2), and what Caisson adds to both: labels, restore, descendants. */
export function diskRoutes(app: AppContext, http: Http, routes: DiskRoutes): void {
  const { kind, schema: DiskSchema, show, deletion } = routes;
  const showOne = async (request: FastifyRequest, disk: Disk) => (await show(request, [disk]))[0];
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
    async (request, reply) => show(request, await requestedPage(app, request, reply, kind)),
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
      const isMeasured = isExtended(request);
      return showOne(request, await getDisk(app, request.actor, kind, request.params.id, { isMeasured }));
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
    async (request) =>
      showOne(request, await labelDisk(app, request.actor, kind, request.params.id, request.body.labels)),
  );
  http.delete(
    `${path}/:id`,
    {
      schema: {
        tags,
        summary: deletion,
        params: IdParams,
        querystring: DeleteQuery,
        response: { 202: PurgingSchema, 204: Type.Null(), ...errors },
      },
    },
    async ({ actor, params: { id }, query }, reply) => {
      if (parseFlag("now", query.now) && (await deleteDiskNow(app, actor, kind, id)) === "purging")
        return reply.status(202).send({ id, status: "purging" as const });
      if (!parseFlag("now", query.now)) await deleteDisk(app, actor, kind, id);
      return reply.status(204).send(null);
    },
  );
  http.post(
    `${path}/:id/purge`,
    {
      schema: {
        tags,
        summary: `Free the space of a deleted ${kind}, by id; with 202 once no sandbox runs from it any more, or its node is back`,
        params: IdParams,
        response: { 202: PurgingSchema, 204: Type.Null(), ...errors },
      },
    },
    async ({ actor, params: { id } }, reply) =>
      (await purgeDiskNow(app, actor, kind, id)) === "purged"
        ? reply.status(204).send(null)
        : reply.status(202).send({ id, status: "purging" as const }),
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
    async (request) =>
      showOne(request, await restoreDisk(app, request.actor, kind, request.params.id, request.body.slug)),
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
    async ({ actor, params }) => (await listDescendants(app, actor, kind, params.id)).map(descendant),
  );
}

/** The page of volumes or snapshots that the query asks for; the answer gets the link to the next one. */
async function requestedPage(
  app: AppContext,
  request: FastifyRequest,
  reply: FastifyReply,
  kind: DiskKind,
): Promise<readonly Disk[]> {
  const query = request.query as Readonly<Record<string, unknown>>;
  const page = parsePage(query);
  const { disks, nextSequence } = await listDisks(app, request.actor, kind, {
    isDeleted: parseFlag("deleted", query.deleted),
    labels: parseLabelFilter(query),
    search: lastValue(query.search) ?? "",
    ...page,
  });
  if (nextSequence !== null) {
    const path = `/api/v2/${kind}s`;
    reply.header("Link", nextLink(originOf(app, request), path, query, nextSequence, page.limit));
  }
  return disks;
}

/** A parameter that says yes or no; absent is no. Throws `INVALID_REQUEST`. */
export function parseFlag(name: string, value: unknown): boolean {
  const text = lastValue(value) ?? "false";
  if (["true", "1"].includes(text)) return true;
  if (["false", "0"].includes(text)) return false;
  throw new CaissonError(
    "INVALID_REQUEST",
    `The parameter ${JSON.stringify(name)} is ${JSON.stringify(text.slice(0, 32))}: give true or false`,
  );
}

const MAX_KEY_LENGTH = 255;

/** The client's key for this request, so that a repeat of it makes nothing twice. */
export function idempotencyKey(request: FastifyRequest): string | undefined {
  const key = request.headers[HEADERS.idempotencyKey];
  if (key === undefined) return undefined;
  if (typeof key === "string" && key !== "" && key.length <= MAX_KEY_LENGTH) return key;
  throw new CaissonError("INVALID_REQUEST", `The header Idempotency-Key must be 1 to ${MAX_KEY_LENGTH} characters`);
}
