import { Readable } from "node:stream";
import { CaissonError } from "@caisson/model";
import { type ExtendedSnapshot, ExtendedSnapshotSchema, SnapshotSchema, type WireSnapshot } from "@caisson/protocol";
import type { FastifyReply, FastifyRequest } from "fastify";
import { Type } from "typebox";
import type { AppContext } from "../app/context.ts";
import type { Disk } from "../app/records.ts";
import { exportSnapshot } from "../app/transfers/snapshot-export.ts";
import { importSnapshot } from "../app/transfers/snapshot-import.ts";
import { endWhenStalled, passBodyOn } from "../connections/long-transfers.ts";
import { errors, IdParams, parseFlag } from "./disk-routes.ts";
import { endWithClient } from "./end-with-client.ts";
import { parseLabelFilter } from "./label-filter.ts";
import { lastValue } from "./pagination.ts";
import type { Http } from "./request.ts";

const SNAPSHOT_FILE = "application/vnd.caisson.snapshot";
const RAW_IMAGE = "application/octet-stream";
const Binary = Type.Unsafe<Readable>({ type: "string", format: "binary" });
const tags = ["snapshots"];

const Flag = (description: string) =>
  Type.Optional(Type.Union([Type.String(), Type.Array(Type.String())], { description }));
const ExportQuery = Type.Object({ raw: Flag("true (or 1): the image itself, without what the snapshot file adds") });
const ImportQuery = Type.Object({
  slug: Type.String({ description: "Of the new snapshot" }),
  region: Type.Optional(Type.String({ description: "Default: the server's first one" })),
  raw: Flag("true (or 1): the body is the image of an ext4 file system"),
  bootable: Flag("true (or 1): sandboxes may boot from it; only with raw, a snapshot file says it itself"),
});

/** Snapshots that leave and come (docs/snapshot-files.md): both as streams, at the pace of the slower side. */
export function transferRoutes(
  app: AppContext,
  http: Http,
  show: (request: FastifyRequest, snapshot: Disk) => Promise<WireSnapshot | ExtendedSnapshot | undefined>,
): void {
  http.get(
    "/api/v2/snapshots/:id/export",
    {
      // Its answer would be made to be thrown away.
      exposeHeadRoute: false,
      schema: {
        tags,
        summary:
          "Export a snapshot as one file that verifies itself, or as its raw image; labels and the like are in the file",
        params: IdParams,
        querystring: ExportQuery,
        response: {
          200: {
            description: "The file",
            content: { [SNAPSHOT_FILE]: { schema: Binary }, [RAW_IMAGE]: { schema: Binary } },
          },
          ...errors,
        },
      },
    },
    async (request, reply) => {
      const isRaw = parseFlag("raw", request.query.raw);
      const signal = endWithClient(reply, "The client of an export left");
      const { slug, sizeBytes, contents } = await exportSnapshot(app, request.actor, request.params.id, {
        ...{ isRaw, signal },
      });
      endWithToken(app, request, reply);
      endWhenStalled(reply.raw);
      if (sizeBytes !== null) reply.header("Content-Length", sizeBytes);
      reply.header("Content-Disposition", `attachment; filename="${slug}.${isRaw ? "ext4" : "snapshot"}"`);
      reply.type(isRaw ? RAW_IMAGE : SNAPSHOT_FILE);
      const stream = Readable.from(contents, { objectMode: false });
      stream.once("error", (error) =>
        app.logger.warn({ err: error, slug, traceId: request.id }, "an export was cut off"),
      );
      return reply.send(stream);
    },
  );
  http.register(async (routes) => {
    // The body is read as it comes, whatever the client says that it is.
    routes.removeAllContentTypeParsers();
    routes.addContentTypeParser("*", (_request, _body, done) => done(null));
    (routes as Http).post(
      "/api/v2/snapshots/import",
      {
        // A body that is read later cannot be validated now.
        validatorCompiler: () => () => true,
        schema: {
          tags,
          summary:
            "Import a snapshot: the body is a file that an export gave, or a raw image. Labels as labels[key]=value; default: those in the file",
          querystring: ImportQuery,
          body: { content: { [SNAPSHOT_FILE]: { schema: Binary }, [RAW_IMAGE]: { schema: Binary } } },
          response: { 200: Type.Union([SnapshotSchema, ExtendedSnapshotSchema]), ...errors },
        },
      },
      async (request, reply) => {
        endWithToken(app, request, reply);
        const left = new AbortController();
        reply.raw.once("close", () => left.abort(new CaissonError("INVALID_SNAPSHOT_FILE", "The upload was cut off")));
        passBodyOn(request.raw);
        const query = request.query as Readonly<Record<string, unknown>>;
        const labels = parseLabelFilter(query);
        const isRaw = parseFlag("raw", query.raw);
        const isBootable = parseFlag("bootable", query.bootable);
        if (isBootable && !isRaw)
          throw new CaissonError(
            "INVALID_REQUEST",
            "A snapshot file says itself whether it is bootable: leave `bootable` out, or add raw=true",
          );
        const input = {
          slug: lastValue(query.slug) ?? "",
          region: lastValue(query.region) ?? null,
          labels: Object.keys(labels).length === 0 ? null : labels,
          format: isRaw ? ({ isRaw, isBootable } as const) : ({ isRaw } as const),
        };
        const body = request.raw.iterator({ destroyOnReturn: false });
        try {
          return await show(request, await importSnapshot(app, request.actor, input, body, left.signal));
        } finally {
          // The rest of one that was refused: a client that still sends may look for the answer only then.
          request.raw.resume();
        }
      },
    );
  });
}

/** A transfer ends when the token is revoked that it was asked for with. */
function endWithToken(app: AppContext, { actor }: FastifyRequest, { raw }: FastifyReply): void {
  if (raw.closed) return;
  const forget = app.connections.add(actor.token.id, () => raw.destroy());
  raw.once("close", forget);
}
