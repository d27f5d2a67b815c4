import type { ImageRecord } from "@caisson/database";
import {
  CreateSnapshotSchema,
  DescendantSchema,
  ErrorSchema,
  ExtendedSnapshotSchema,
  RestoreSchema,
  SnapshotSchema,
  UpdateLabelsSchema,
} from "@caisson/protocol";
import type { FastifyRequest } from "fastify";
import { Type } from "typebox";
import { type AppContext, requireSnapshot } from "../app/context.ts";
import { deleteImage, labelImage, restoreImage } from "../app/image-delete.ts";
import { createSnapshot } from "../app/snapshot-create.ts";
import { refreshUsage } from "../app/usage.ts";
import { IdParams, idempotencyKey, ListQuery, listImages } from "./image-routes.ts";
import { descendant, extendedSnapshot, wireSnapshot } from "./representations.ts";
import { type Http, isExtended } from "./server.ts";

const Snapshot = Type.Union([SnapshotSchema, ExtendedSnapshotSchema]);
const errors = { "4xx": ErrorSchema, "5xx": ErrorSchema };
const tags = ["snapshots"];

/** Snapshots (protocol.md 2.2, 2.3), and what Caisson adds: restore, labels, descendants. */
export function snapshotRoutes(app: AppContext, http: Http): void {
  const show = async (request: FastifyRequest, snapshot: ImageRecord) =>
    isExtended(request) ? extendedSnapshot(snapshot) : wireSnapshot(snapshot);

  http.post(
    "/api/v2/volumes/:id/snapshot",
    {
      schema: {
        tags,
        summary: "Snapshot a volume, attached or not",
        params: IdParams,
        body: CreateSnapshotSchema,
        response: { 200: Snapshot, ...errors },
      },
    },
    async (request) => {
      const { slug, labels } = request.body;
      const input = { slug, labels: labels ?? null };
      return show(request, await createSnapshot(app, request.actor, request.params.id, input, idempotencyKey(request)));
    },
  );
  http.get(
    "/api/v2/snapshots",
    {
      schema: {
        tags,
        summary: "List snapshots, newest first",
        querystring: ListQuery,
        response: { 200: Type.Array(Snapshot), ...errors },
      },
    },
    (request, reply) => listImages(app, request, reply, "snapshot", show),
  );
  http.get(
    "/api/v2/snapshots/:id",
    {
      schema: {
        tags,
        summary: "Get a snapshot by id or slug",
        params: IdParams,
        response: { 200: Snapshot, ...errors },
      },
    },
    async (request) => {
      const snapshot = await requireSnapshot(app, request.actor, request.params.id);
      return show(request, isExtended(request) ? await refreshUsage(app, snapshot) : snapshot);
    },
  );
  http.patch(
    "/api/v2/snapshots/:id",
    {
      schema: {
        tags,
        summary: "Replace a snapshot's labels",
        params: IdParams,
        body: UpdateLabelsSchema,
        response: { 200: Snapshot, ...errors },
      },
    },
    async (request) =>
      show(request, await labelImage(app, request.actor, "snapshot", request.params.id, request.body.labels)),
  );
  http.delete(
    "/api/v2/snapshots/:id",
    {
      schema: {
        tags,
        summary: "Delete a snapshot; what came from it stays whole",
        params: IdParams,
        response: { 204: Type.Null(), ...errors },
      },
    },
    async (request, reply) => {
      await deleteImage(app, request.actor, "snapshot", request.params.id);
      return reply.status(204).send(null);
    },
  );
  http.post(
    "/api/v2/snapshots/:id/restore",
    {
      schema: {
        tags,
        summary: "Restore a deleted snapshot by id",
        params: IdParams,
        body: RestoreSchema,
        response: { 200: Snapshot, ...errors },
      },
    },
    async (request) =>
      show(request, await restoreImage(app, request.actor, "snapshot", request.params.id, request.body.slug)),
  );
  http.get(
    "/api/v2/snapshots/:id/descendants",
    {
      schema: {
        tags,
        summary: "Volumes and snapshots made from a snapshot",
        params: IdParams,
        response: { 200: Type.Array(DescendantSchema), ...errors },
      },
    },
    async (request) => {
      const snapshot = await requireSnapshot(app, request.actor, request.params.id);
      return (await app.store.images.descendants(request.actor.organization.id, snapshot.id, 1000)).map(descendant);
    },
  );
}
