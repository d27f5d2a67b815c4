import {
  CreateVolumeSchema,
  ExtendedVolumeSchema,
  GrowVolumeSchema,
  ScheduleVolumeSchema,
  VolumeSchema,
} from "@caisson/protocol";
import type { FastifyRequest } from "fastify";
import { Type } from "typebox";
import type { AppContext } from "../app/context.ts";
import { findProblems } from "../app/disks/disk-problem.ts";
import type { Disk } from "../app/records.ts";
import { setSchedule } from "../app/schedules/schedule-set.ts";
import { listReplicatedStates } from "../app/volumes/replicated-states.ts";
import { createVolume } from "../app/volumes/volume-create.ts";
import { acknowledgeVolume } from "../app/volumes/volume-damage.ts";
import { growVolume } from "../app/volumes/volume-grow.ts";
import { listWriters } from "../app/volumes/volume-writers.ts";
import { diskRoutes, errors, IdParams, idempotencyKey } from "./disk-routes.ts";
import { endWithClient } from "./end-with-client.ts";
import { extendedVolume, wireVolume } from "./representations.ts";
import { type Http, isExtended } from "./request.ts";

const Volume = Type.Union([VolumeSchema, ExtendedVolumeSchema]);
const tags = ["volumes"];

/** Volumes (protocol.md 2.2), and what Caisson adds: restore, grow, labels, descendants. */
export function volumeRoutes(app: AppContext, http: Http): void {
  const show = async (request: FastifyRequest, volumes: readonly Disk[]) => {
    if (!isExtended(request)) return volumes.map(wireVolume);
    const ids = volumes.map(({ id }) => id);
    const writers = await listWriters(app, ids);
    const problems = await findProblems(app, volumes);
    const replicated = await listReplicatedStates(app, ids);
    return volumes.map((volume) =>
      extendedVolume(volume, {
        attachedTo: writers.get(volume.id) ?? null,
        unavailable: problems.get(volume.id) ?? null,
        replicatedAtMs: replicated.get(volume.id) ?? null,
        isReplicating: app.config.snapshotStore !== null,
      }),
    );
  };
  const showOne = async (request: FastifyRequest, volume: Disk) => (await show(request, [volume]))[0];

  diskRoutes(app, http, {
    kind: "volume",
    schema: Volume,
    show,
    deletion:
      "Delete a volume; it can be restored until `purge_at`, by default for 24 hours, or for one hour when the pool needs room",
  });
  http.post(
    "/api/v2/volumes",
    { schema: { tags, summary: "Create a volume", body: CreateVolumeSchema, response: { 200: Volume, ...errors } } },
    async (request, reply) => {
      const signal = endWithClient(reply, "The client that creates a volume left");
      const input = pickCreate(request.body);
      return showOne(request, await createVolume(app, request.actor, input, idempotencyKey(request), signal));
    },
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
    async (request) => showOne(request, await growVolume(app, request.actor, request.params.id, request.body.capacity)),
  );
  http.post(
    "/api/v2/volumes/:id/schedule",
    {
      schema: {
        tags,
        summary:
          "Have the server make a snapshot of a volume that often, the first one at once, bring it into the snapshot store and thin out older ones; null ends that",
        params: IdParams,
        body: ScheduleVolumeSchema,
        response: { 200: Volume, ...errors },
      },
    },
    async (request) => showOne(request, await setSchedule(app, request.actor, request.params.id, request.body.every)),
  );
  http.post(
    "/api/v2/volumes/:id/acknowledge",
    {
      schema: {
        tags,
        summary: "Acknowledge a volume's last error: it is then no longer shown",
        params: IdParams,
        response: { 200: Volume, ...errors },
      },
    },
    async (request) => showOne(request, await acknowledgeVolume(app, request.actor, request.params.id)),
  );
}

/** Only what belongs to the request: the body of an official client may carry its token (protocol.md 2.1). */
function pickCreate(body: Type.Static<typeof CreateVolumeSchema>) {
  const { slug, region, capacity, from = null, inodes = null, labels = null, every = null } = body;
  return { slug, region, capacity, from, class: body.storage_class ?? null, inodes, labels, every };
}
