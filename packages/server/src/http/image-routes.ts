import type { ImageKind, ImageRecord } from "@caisson/database";
import { CaissonError } from "@caisson/model";
import { HEADERS } from "@caisson/protocol";
import type { FastifyReply, FastifyRequest } from "fastify";
import { Type } from "typebox";
import type { AppContext } from "../app/context.ts";
import { parseLabelFilter } from "./label-filter.ts";
import { lastValue, nextLink, parsePage } from "./pagination.ts";
import { originOf } from "./server.ts";

export const IdParams = Type.Object({ id: Type.String({ description: "Id or slug" }) });

const Repeatable = Type.Union([Type.String(), Type.Array(Type.String())]);

/** Query of the lists of volumes and snapshots. Labels filter as `labels[key]=value`. */
export const ListQuery = Type.Object({
  limit: Type.Optional(Repeatable),
  cursor: Type.Optional(Repeatable),
  search: Type.Optional(Repeatable),
  deleted: Type.Optional(Repeatable),
});

/** One page of volumes or snapshots, with the link to the next one. */
export async function listImages<T extends object>(
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
