import { CreateSnapshotSchema, ExtendedSnapshotSchema, SnapshotSchema, VerificationSchema } from "@caisson/protocol";
import type { FastifyRequest } from "fastify";
import { Type } from "typebox";
import type { AppContext } from "../app/context.ts";
import { findProblems } from "../app/disks/disk-problem.ts";
import type { Disk } from "../app/records.ts";
import { replicateSnapshot } from "../app/replication/snapshot-replicate.ts";
import { verifySnapshot } from "../app/replication/snapshot-verify.ts";
import { createSnapshot } from "../app/volumes/snapshot-create.ts";
import { diskRoutes, errors, IdParams, idempotencyKey } from "./disk-routes.ts";
import { endWithClient } from "./end-with-client.ts";
import { extendedSnapshot, wireSnapshot } from "./representations.ts";
import { type Http, isExtended } from "./request.ts";
import { transferRoutes } from "./transfers.ts";

const Snapshot = Type.Union([SnapshotSchema, ExtendedSnapshotSchema]);
const tags = ["snapshots"];

/** Snapshots (protocol.md 2.2, 2.3), and what Caisson adds: restore, labels, descendants. */
export function snapshotRoutes(app: AppContext, http: Http): void {
  const show = async (request: FastifyRequest, snapshots: readonly Disk[]) => {
    if (!isExtended(request)) return snapshots.map(wireSnapshot);
    const problems = await findProblems(app, snapshots);
    return snapshots.map((snapshot) => {
      const { id } = snapshot;
      return extendedSnapshot(snapshot, { unavailable: problems.get(id) ?? null, fetch: app.fetches.progressOf(id) });
    });
  };
  const showOne = async (request: FastifyRequest, snapshot: Disk) => (await show(request, [snapshot]))[0];

  diskRoutes(app, http, {
    kind: "snapshot",
    schema: Snapshot,
    show,
    deletion: "Delete a snapshot; what came from it stays whole. It can be restored as a volume can",
  });
  transferRoutes(app, http, showOne);
  http.post(
    "/api/v2/snapshots/:id/replicate",
    {
      schema: {
        tags,
        summary:
          "Bring a snapshot into the snapshot store, in the background; `replication` of its extended form tells when it is there",
        params: IdParams,
        response: { 200: Snapshot, ...errors },
      },
    },
    async (request) => showOne(request, await replicateSnapshot(app, request.actor, request.params.id)),
  );
  http.post(
    "/api/v2/snapshots/:id/verify",
    {
      schema: {
        tags,
        summary:
          "Read a replicated snapshot whole, in the snapshot store and in its pool, and tell what is damaged; a damaged copy is uploaded again from a whole image",
        params: IdParams,
        response: { 200: VerificationSchema, ...errors },
      },
    },
    async (request, reply) => {
      const signal = endWithClient(reply, "The client of a verification left");
      const found = await verifySnapshot(app, request.actor, request.params.id, signal);
      const { readBytes: read, isRenewed: renewed, ...parts } = found;
      return { ...parts, read, renewed };
    },
  );
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
      return showOne(
        request,
        await createSnapshot(app, request.actor, request.params.id, input, idempotencyKey(request)),
      );
    },
  );
}
