import type { ImageRecord } from "@caisson/database";
import {
  CreateVolumeSchema,
  DescendantSchema,
  ErrorSchema,
  ExtendedVolumeSchema,
  GrowVolumeSchema,
  RestoreSchema,
  UpdateLabelsSchema,
  VolumeSchema,
} from "@caisson/protocol";
import type { FastifyRequest } from "fastify";
import { Type } from "typebox";
import { type AppContext, requireVolume } from "../app/context.ts";
import { deleteImage, labelImage, restoreImage } from "../app/image-delete.ts";
import { refreshUsage } from "../app/usage.ts";
import { createVolume } from "../app/volume-create.ts";
import { growVolume } from "../app/volume-grow.ts";
import { IdParams, idempotencyKey, ListQuery, listImages } from "./image-routes.ts";
import { descendant, extendedVolume, wireVolume } from "./representations.ts";
import { type Http, isExtended } from "./server.ts";

const Volume = Type.Union([VolumeSchema, ExtendedVolumeSchema]);
const errors = { "4xx": ErrorSchema, "5xx": ErrorSchema };
const tags = ["volumes"];

/** Volumes (protocol.md 2.2), and what Caisson adds: restore, grow, labels, descendants. */
export function volumeRoutes(app: AppContext, http: Http): void {
  const show = async (request: FastifyRequest, volume: ImageRecord) => {
    if (!isExtended(request)) return wireVolume(volume);
    const writer = (await app.store.sandboxes.holders(volume.id)).find((holder) => !holder.isReadOnly);
    return extendedVolume(volume, writer?.sandboxId ?? null);
  };

  http.get(
    "/api/v2/volumes",
    {
      schema: {
        tags,
        summary: "List volumes, newest first",
        querystring: ListQuery,
        response: { 200: Type.Array(Volume), ...errors },
      },
    },
    (request, reply) => listImages(app, request, reply, "volume", show),
  );
  http.get(
    "/api/v2/volumes/:id",
    { schema: { tags, summary: "Get a volume by id or slug", params: IdParams, response: { 200: Volume, ...errors } } },
    async (request) => {
      const volume = await requireVolume(app, request.actor, request.params.id);
      return show(request, isExtended(request) ? await refreshUsage(app, volume) : volume);
    },
  );
  http.post(
    "/api/v2/volumes",
    { schema: { tags, summary: "Create a volume", body: CreateVolumeSchema, response: { 200: Volume, ...errors } } },
    async (request) =>
      show(request, await createVolume(app, request.actor, pickCreate(request.body), idempotencyKey(request))),
  );
  http.patch(
    "/api/v2/volumes/:id",
    {
      schema: {
        tags,
        summary: "Replace a volume's labels",
        params: IdParams,
        body: UpdateLabelsSchema,
        response: { 200: Volume, ...errors },
      },
    },
    async (request) =>
      show(request, await labelImage(app, request.actor, "volume", request.params.id, request.body.labels)),
  );
  http.delete(
    "/api/v2/volumes/:id",
    {
      schema: {
        tags,
        summary: "Delete a volume; it can be restored for 24 hours",
        params: IdParams,
        response: { 204: Type.Null(), ...errors },
      },
    },
    async (request, reply) => {
      await deleteImage(app, request.actor, "volume", request.params.id);
      return reply.status(204).send(null);
    },
  );
  http.post(
    "/api/v2/volumes/:id/restore",
    {
      schema: {
        tags,
        summary: "Restore a deleted volume by id",
        params: IdParams,
        body: RestoreSchema,
        response: { 200: Volume, ...errors },
      },
    },
    async (request) =>
      show(request, await restoreImage(app, request.actor, "volume", request.params.id, request.body.slug)),
  );
  http.post(
    "/api/v2/volumes/:id/grow",
    {
      schema: {
        tags,
        summary: "Grow a detached volume and its file system",
        params: IdParams,
        body: GrowVolumeSchema,
        response: { 200: Volume, ...errors },
      },
    },
    async (request) => show(request, await growVolume(app, request.actor, request.params.id, request.body.capacity)),
  );
  http.get(
    "/api/v2/volumes/:id/descendants",
    {
      schema: {
        tags,
        summary: "Snapshots and volumes made from a volume",
        params: IdParams,
        response: { 200: Type.Array(DescendantSchema), ...errors },
      },
    },
    async (request) => {
      const volume = await requireVolume(app, request.actor, request.params.id);
      return (await app.store.images.descendants(request.actor.organization.id, volume.id, 1000)).map(descendant);
    },
  );
}

/** Only what belongs to the request: the body of an official client may carry its token (protocol.md 2.1). */
function pickCreate(body: Type.Static<typeof CreateVolumeSchema>) {
  const { slug, region, capacity, from, labels } = body;
  return { slug, region, capacity, from: from ?? null, labels: labels ?? null };
}
