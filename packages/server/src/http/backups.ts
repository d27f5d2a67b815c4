import { Type } from "typebox";
import { createBackup } from "../app/backups/backup-create.ts";
import { deleteBackup } from "../app/backups/backup-delete.ts";
import { listBackups } from "../app/backups/backup-list.ts";
import type { AppContext } from "../app/context.ts";
import { errors, IdParams } from "./disk-routes.ts";
import type { Http } from "./request.ts";

const tags = ["administration"];

const Timestamp = Type.String({ format: "date-time" });
const OrNull = (description: string) => Type.Union([Type.String(), Type.Null()], { description });
const ListedSchema = Type.Object({
  id: Type.String(),
  at: Timestamp,
  automatic: Type.Boolean({ description: "Made by the schedule, and forgotten by it" }),
});
const CreatedSchema = Type.Object({
  ...ListedSchema.properties,
  size: Type.Integer({ description: "Bytes of the rows" }),
  stored: Type.Integer({ description: "Bytes that it takes in the store, what it shares with others included" }),
  sent: Type.Integer({ description: "Bytes that were sent" }),
});
const OverviewSchema = Type.Object({
  every_seconds: Type.Union([Type.Number(), Type.Null()], { description: "How often there is to be one" }),
  problem: OrNull("What an administrator must see to, such as that the newest one is too old"),
  error: OrNull("Why the last try failed, if it did"),
  error_at: OrNull("When that was, as a time"),
  backups: Type.Array(ListedSchema, { description: "The newest first" }),
});

/** Backups of the rows in the snapshot store: for administrators. */
export function backupRoutes(app: AppContext, http: Http): void {
  http.get(
    "/api/v1/backups",
    {
      schema: {
        tags,
        summary: "The backups of the installation's rows in the snapshot store, and how the last one went",
        response: { 200: OverviewSchema, ...errors },
      },
    },
    async ({ actor }) => {
      const { everyMs, problem, failure, backups } = await listBackups(app, actor);
      return {
        every_seconds: everyMs === null ? null : everyMs / 1000,
        problem,
        error: failure?.message ?? null,
        error_at: failure === null ? null : new Date(failure.atMs).toISOString(),
        backups: backups.map(show),
      };
    },
  );
  http.post(
    "/api/v1/backups",
    {
      schema: {
        tags,
        summary: "Make a backup of the installation's rows; the answer comes when it is in the snapshot store",
        response: { 200: CreatedSchema, ...errors },
      },
    },
    async (request, reply) => {
      const left = new AbortController();
      reply.raw.once("close", () => left.abort(new Error("The client that asked for a backup left")));
      const made = await createBackup(app, request.actor, left.signal);
      return { ...show(made), size: made.sizeBytes, stored: made.storedBytes, sent: made.sentBytes };
    },
  );
  http.delete(
    "/api/v1/backups/:id",
    {
      schema: {
        tags,
        summary: "Delete a backup",
        params: IdParams,
        response: { 204: Type.Null(), ...errors },
      },
    },
    async ({ actor, params: { id } }, reply) => {
      await deleteBackup(app, actor, id);
      return reply.status(204).send(null);
    },
  );
}

function show({
  id,
  atMs,
  isAutomatic,
}: {
  readonly id: string;
  readonly atMs: number;
  readonly isAutomatic: boolean;
}) {
  return { id, at: new Date(atMs).toISOString(), automatic: isAutomatic };
}
