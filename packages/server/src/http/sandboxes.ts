import type { SandboxRecord } from "@caisson/database";
import { CaissonError } from "@caisson/model";
import { ErrorSchema, ExtendSandboxSchema, SandboxSchema } from "@caisson/protocol";
import type { FastifyRequest } from "fastify";
import { Type } from "typebox";
import type { AppContext } from "../app/context.ts";
import type { LiveSandbox } from "../app/live-sandboxes.ts";
import { endSandbox, extendSandbox } from "../app/sandbox-end.ts";
import { IdParams } from "./disk-routes.ts";
import { parseLabelFilter } from "./label-filter.ts";
import { lastValue } from "./pagination.ts";
import { wireSandbox } from "./representations.ts";
import type { Http } from "./request.ts";

const errors = { "4xx": ErrorSchema, "5xx": ErrorSchema };
const tags = ["sandboxes"];
const MAX_LISTED = 1000;
/** The longest that `?wait=stopped` holds a request. */
const MAX_WAIT_MS = 30_000;

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
});

/** Control of sandboxes over REST (protocol.md 2.4, 2.5). Creating and connecting are upgrades: see the gateway. */
export function sandboxRoutes(app: AppContext, http: Http): void {
  for (const url of ["/api/v2/sandboxes", "/api/v3/sandboxes"]) {
    http.get(
      url,
      {
        schema: {
          tags,
          summary: "List sandboxes; filter with labels[key]=value",
          response: { 200: Type.Array(SandboxSchema), ...errors },
        },
      },
      async (request) => {
        const labels = parseLabelFilter(request.query as Readonly<Record<string, unknown>>);
        return (await app.store.sandboxes.list(request.actor.organization.id, MAX_LISTED, labels)).map(wireSandbox);
      },
    );
  }
  for (const url of ["/api/v3/sandbox/:id", "/api/v3/sandboxes/:id"]) {
    http.delete(
      url,
      {
        schema: {
          tags,
          summary: "End a sandbox; its volumes are free when this answers",
          params: IdParams,
          response: { 204: Type.Null(), ...errors },
        },
      },
      async (request, reply) => {
        const sandbox = await requireSandbox(app, request);
        const live = app.live.get(sandbox.id);
        if (live !== undefined) await endSandbox(app, live, "killed");
        else if (sandbox.status === "stopped") throw notFound(sandbox.id);
        return reply.status(204).send(null);
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
    async (request) => {
      const sandbox = await requireSandbox(app, request);
      if (lastValue(request.query.wait) !== "stopped") return detailedSandbox(sandbox);
      await waitUntilStopped(app, sandbox.id);
      return detailedSandbox(await requireSandbox(app, request));
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
    async (request) => {
      const live = requireLive(app, await requireSandbox(app, request));
      return { stop_at_ms: await extendSandbox(app, live, request.body.stop_at_ms) };
    },
  );
}

/** A sandbox of the caller's organization, in any state. Throws `SANDBOX_NOT_FOUND`. */
async function requireSandbox(app: AppContext, request: FastifyRequest): Promise<SandboxRecord> {
  const { id } = request.params as { readonly id: string };
  const sandbox = await app.store.sandboxes.get(request.actor.organization.id, id);
  if (sandbox === null) throw notFound(id);
  return sandbox;
}

function requireLive(app: AppContext, sandbox: SandboxRecord): LiveSandbox {
  const live = app.live.get(sandbox.id);
  if (live === undefined || live.ending !== null) throw notFound(sandbox.id);
  return live;
}

/** Resolves when the sandbox has ended, or after the longest wait; its row then says which. */
async function waitUntilStopped(app: AppContext, id: string): Promise<void> {
  const live = app.live.get(id);
  if (live === undefined) return;
  const { promise: timeout, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, MAX_WAIT_MS);
  try {
    await Promise.race([live.ended, timeout]);
  } finally {
    clearTimeout(timer);
  }
}

function detailedSandbox(sandbox: SandboxRecord) {
  return {
    ...wireSandbox(sandbox),
    status: sandbox.status,
    stopReason: sandbox.stopReason,
    stopAt: sandbox.stopAtMs === null ? null : new Date(sandbox.stopAtMs).toISOString(),
    memoryMib: sandbox.memoryMib,
  };
}

function notFound(id: string): CaissonError {
  return new CaissonError("SANDBOX_NOT_FOUND", `There is no running sandbox ${JSON.stringify(id.slice(0, 64))}`);
}
