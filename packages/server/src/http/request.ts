import type { IncomingMessage, ServerResponse } from "node:http";
import { EXTENDED_MEDIA_TYPE } from "@caisson/protocol";
import type { TypeBoxTypeProvider } from "@fastify/type-provider-typebox";
import type { FastifyBaseLogger, FastifyInstance, FastifyRequest, RawServerDefault } from "fastify";
import type { Actor, AppContext } from "../app/context.ts";
import { originOfRequest } from "./request-origin.ts";

/** The server as files of routes see it, with types of requests taken from their schemas. */
export type Http = FastifyInstance<
  RawServerDefault,
  IncomingMessage,
  ServerResponse,
  FastifyBaseLogger,
  TypeBoxTypeProvider
>;

declare module "fastify" {
  interface FastifyRequest {
    /** Set for every route but the public ones. */
    actor: Actor;
  }
  interface FastifyContextConfig {
    /** No token needed. */
    isPublic?: boolean;
  }
}

/** True when the client asked for Caisson's own form. */
export function isExtended(request: FastifyRequest): boolean {
  return request.headers.accept?.includes(EXTENDED_MEDIA_TYPE) ?? false;
}

/** The origin that links in answers start with. */
export function originOf(app: AppContext, request: FastifyRequest): string {
  if (app.config.publicUrl !== null) return app.config.publicUrl;
  const { protocol, host } = originOfRequest(request.raw, app.config.trustedProxies);
  return `${protocol}://${host}`;
}
