import { randomUUID } from "node:crypto";
import { CaissonError } from "@caisson/model";
import { HEADERS } from "@caisson/protocol";
import fastifySwagger from "@fastify/swagger";
import type { TypeBoxTypeProvider } from "@fastify/type-provider-typebox";
import Fastify, { type FastifyReply } from "fastify";
import type { AppContext } from "../app/context.ts";
import { createGuardedServer } from "../connections/guarded-server.ts";
import { MAX_BODY_BYTES } from "../connections/http-limits.ts";
import type { TlsMaterial } from "../tls.ts";
import { adminRoutes } from "./admin.ts";
import { authenticate } from "./authenticate.ts";
import { authorityRoutes } from "./authority.ts";
import { backupRoutes } from "./backups.ts";
import { answerBrokenRequest, answerSlowRequest } from "./broken-request.ts";
import { errorBody, extendedErrorBody, isServersFault, toCaissonError } from "./errors.ts";
import { joiningRoutes } from "./joining.ts";
import { metricsRoutes } from "./metrics.ts";
import { nodeRoutes } from "./nodes.ts";
import { poolRoutes } from "./pools.ts";
import { previewRoutes } from "./previews.ts";
import { type Http, isExtended } from "./request.ts";
import { requireHost } from "./request-origin.ts";
import { sandboxRoutes } from "./sandboxes.ts";
import { snapshotStoreRoutes } from "./snapshot-store.ts";
import { snapshotRoutes } from "./snapshots.ts";
import { sshRoutes } from "./ssh.ts";
import { unsupportedRoutes } from "./unsupported.ts";
import { volumeRoutes } from "./volumes.ts";

/** Characters of a path that an error repeats. */
const MAX_SHOWN = 256;

/** The HTTP half of the server: REST routes, one error form, and the OpenAPI document of both. */
export async function buildHttp(app: AppContext, tls: TlsMaterial | null = null): Promise<Http> {
  const http: Http = Fastify({
    genReqId: () => randomUUID(),
    bodyLimit: MAX_BODY_BYTES,
    serverFactory: (handle) => createGuardedServer(handle, tls, answerSlowRequest),
    clientErrorHandler(error, socket) {
      app.logger.debug({ err: error }, "a client sent what is no request");
      answerBrokenRequest(error, socket);
    },
    routerOptions: { maxParamLength: 256 },
    // What the router refuses before there is a route, such as a path that cannot be decoded.
    frameworkErrors(error, request, reply: FastifyReply) {
      reply.header(HEADERS.traceId, request.id).status(error.statusCode ?? 400);
      return reply.send(errorBody(toCaissonError(error)));
    },
    forceCloseConnections: true,
    ajv: { customOptions: { coerceTypes: false, removeAdditional: false } },
  }).withTypeProvider<TypeBoxTypeProvider>();

  // Schemas of answers are documentation: an answer goes out as the handler made it.
  http.setSerializerCompiler(() => JSON.stringify);
  // The Python client declares a JSON body on every request, also on those without one (protocol.md 1.4).
  http.removeContentTypeParser("application/json");
  http.addContentTypeParser("application/json", { parseAs: "string" }, (_request, body, done) => {
    if (body === "") return done(null, undefined);
    try {
      done(null, JSON.parse(String(body)));
    } catch (error) {
      done(new CaissonError("INVALID_REQUEST", "The request body is not valid JSON", { cause: error }));
    }
  });

  http.addHook("onRequest", async (request, reply) => {
    reply.header(HEADERS.traceId, request.id);
    requireHost(request.raw);
    if (request.routeOptions.config.isPublic !== true && request.routeOptions.url !== undefined)
      request.actor = await authenticate(app, request.headers);
  });
  // Every body has members that may be left out; no body at all is then the same as none of them.
  http.addHook("preValidation", async (request) => {
    if (request.body === undefined && request.method !== "GET") request.body = {};
  });
  http.addHook("onResponse", async (request, reply) => {
    const route = request.routeOptions.url ?? "unknown";
    app.metrics.httpRequests.inc({ method: request.method, route, status: reply.statusCode });
    app.logger.debug(
      {
        traceId: request.id,
        method: request.method,
        path: request.routeOptions.url,
        status: reply.statusCode,
        durationMs: Math.round(reply.elapsedTime * 10) / 10,
      },
      "request",
    );
  });
  http.setErrorHandler((error, request, reply) => {
    const known = toCaissonError(error);
    if (isServersFault(known)) app.logger.error({ err: known, traceId: request.id }, "request failed");
    if (known.retryAfterSeconds !== null) reply.header("Retry-After", known.retryAfterSeconds);
    return reply
      .status(known.status)
      .send(isExtended(request) ? extendedErrorBody(known, request.id) : errorBody(known));
  });
  http.setNotFoundHandler((request) => {
    throw new CaissonError(
      "NOT_FOUND",
      `There is nothing at ${request.method} ${request.url.split("?")[0]?.slice(0, MAX_SHOWN)}`,
    );
  });

  await http.register(fastifySwagger, {
    openapi: {
      openapi: "3.1.0",
      info: {
        title: "Caisson",
        description: "Volumes, snapshots and sandboxes. Speaks the Deno Sandbox wire protocol.",
        version: "0.1.0",
      },
      components: { securitySchemes: { token: { type: "http", scheme: "bearer" } } },
      security: [{ token: [] }],
    },
  });
  await http.register(async (routes) => {
    volumeRoutes(app, routes as Http);
    snapshotRoutes(app, routes as Http);
    sandboxRoutes(app, routes as Http);
    previewRoutes(app, routes as Http);
    sshRoutes(app, routes as Http);
    adminRoutes(app, routes as Http);
    poolRoutes(app, routes as Http);
    backupRoutes(app, routes as Http);
    snapshotStoreRoutes(app, routes as Http);
    nodeRoutes(app, routes as Http);
    joiningRoutes(app, routes as Http);
    authorityRoutes(app, routes as Http);
    unsupportedRoutes(routes as Http);
    metricsRoutes(app, routes as Http);
  });
  http.get(
    "/health",
    { config: { isPublic: true }, schema: { summary: "Is the server up?", security: [] } },
    async () => ({ status: "ok" }),
  );
  let openapi: Buffer | null = null;
  http.get("/openapi.json", { config: { isPublic: true }, schema: { hide: true } }, async (_request, reply) => {
    // Made once, and shared by all answers that wait for their clients.
    openapi ??= Buffer.from(JSON.stringify(http.swagger()));
    return reply.type("application/json; charset=utf-8").send(openapi);
  });
  return http;
}
