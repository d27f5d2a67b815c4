import { ErrorSchema, ExtendSandboxSchema, SandboxSchema } from "@caisson/protocol";
import { Type } from "typebox";
import type { AppContext } from "../app/context.ts";
import type { SandboxRecord } from "../app/records.ts";
import { extendSandbox } from "../app/sandboxes/sandbox-end.ts";
import { getSandbox, requireLiveSandbox, waitForSandboxEnd } from "../app/sandboxes/sandbox-get.ts";
import { killSandbox } from "../app/sandboxes/sandbox-kill.ts";
import { listSandboxes } from "../app/sandboxes/sandbox-list.ts";
import { IdParams } from "./disk-routes.ts";
import { parseLabelFilter } from "./label-filter.ts";
import { lastValue } from "./pagination.ts";
import { wireSandbox } from "./representations.ts";
import { type Http, isExtended } from "./request.ts";

const errors = { "4xx": ErrorSchema, "5xx": ErrorSchema };
const tags = ["sandboxes"];

const DetailedSandboxSchema = Type.Object({
  ...SandboxSchema.properties,
  status: Type.Union([
    Type.Literal("starting"),
    Type.Literal("running"),
    Type.Literal("stopping"),
    Type.Literal("stopped"),
  ]),
  stopReason: Type.Union([Type.String(), Type.Null()], { description: "Why it ended" }),
  stopAt: Type.Union([Type.String({ format: "date-time" }), Type.Null()], { description: "End of a duration sandbox" }),
  memoryMib: Type.Integer(),
  node: Type.String({ description: "Id of the node that runs it, or ran it" }),
  damages: Type.Array(Type.String(), {
    description:
      "What went wrong with its volumes, such as writes that were lost: known when it has ended, and for people",
  }),
});

const ListedSandboxSchema = Type.Object({
  ...SandboxSchema.properties,
  stopReason: DetailedSandboxSchema.properties.stopReason,
  stopAt: DetailedSandboxSchema.properties.stopAt,
  node: DetailedSandboxSchema.properties.node,
});

/** An end that takes longer than a client should wait. */
const StoppingSchema = Type.Object({ id: Type.String(), status: Type.Literal("stopping") });

/** Control of sandboxes over REST (protocol.md 2.4, 2.5). Creating and connecting are upgrades: see the gateway. */
export function sandboxRoutes(app: AppContext, http: Http): void {
  for (const url of ["/api/v2/sandboxes", "/api/v3/sandboxes"]) {
    http.get(
      url,
      {
        schema: {
          tags,
          summary: "List sandboxes; filter with labels[key]=value",
          response: { 200: Type.Array(Type.Union([SandboxSchema, ListedSandboxSchema])), ...errors },
        },
      },
      async (request) => {
        const labels = parseLabelFilter(request.query as Readonly<Record<string, unknown>>);
        const sandboxes = await listSandboxes(app, request.actor, labels);
        return sandboxes.map(isExtended(request) ? listedSandbox : wireSandbox);
      },
    );
  }
  for (const url of ["/api/v3/sandbox/:id", "/api/v3/sandboxes/:id"]) {
    http.delete(
      url,
      {
        schema: {
          tags,
          summary:
            "End a sandbox; its volumes are free when this answers 204. With 202 the end goes on until it is done. 409 with DATA_LOST: it has ended and its volumes are free, but writes to them are lost",
          params: IdParams,
          response: { 202: StoppingSchema, 204: Type.Null(), ...errors },
        },
      },
      async (request, reply) => {
        const { id } = request.params;
        const status = await killSandbox(app, request.actor, id);
        return status === "stopped" ? reply.status(204).send(null) : reply.status(202).send({ id, status });
      },
    );
  }
  http.get(
    "/api/v3/sandbox/:id",
    {
      schema: {
        tags,
        summary: "Get a sandbox, with wait=stopped once it has ended",
        params: IdParams,
        querystring: Type.Object({
          wait: Type.Optional(Type.Union([Type.Literal("stopped"), Type.Array(Type.String())])),
        }),
        response: { 200: DetailedSandboxSchema, ...errors },
      },
    },
    async ({ actor, params, query }) => {
      const find = lastValue(query.wait) === "stopped" ? waitForSandboxEnd : getSandbox;
      return detailedSandbox(await find(app, actor, params.id));
    },
  );
  http.patch(
    "/api/v3/sandbox/:id",
    {
      schema: {
        tags,
        summary: "Extend a sandbox's life",
        params: IdParams,
        body: ExtendSandboxSchema,
        response: { 200: ExtendSandboxSchema, ...errors },
      },
    },
    async ({ actor, params, body }) => ({
      stop_at_ms: await extendSandbox(app, await requireLiveSandbox(app, actor, params.id), body.stop_at_ms),
    }),
  );
}

function listedSandbox(sandbox: SandboxRecord) {
  const { stopReason, stopAt, node } = detailedSandbox(sandbox);
  return { ...wireSandbox(sandbox), stopReason, stopAt, node };
}

function detailedSandbox(sandbox: SandboxRecord) {
  return {
    ...wireSandbox(sandbox),
    status: sandbox.status,
    stopReason: sandbox.stopReason,
    stopAt: sandbox.stopAtMs === null ? null : new Date(sandbox.stopAtMs).toISOString(),
    memoryMib: sandbox.memoryMib,
    node: sandbox.owner.nodeId,
    damages: [...sandbox.damages],
  };
}
