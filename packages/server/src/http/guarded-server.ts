import { createServer, type RequestListener, type Server } from "node:http";
import { HttpGuard } from "@caisson/linux";
import { answerLateRequest } from "./broken-request.ts";
import { HTTP_LIMITS, KEEP_ALIVE_MS, MAX_HEADER_BYTES } from "./http-limits.ts";

/** A server of HTTP whose clients, known or not, cannot cost more than the limits say. */
export function createGuardedServer(handle: RequestListener): Server {
  const server = createServer({
    maxHeaderSize: MAX_HEADER_BYTES,
    keepAlive: true,
    keepAliveInitialDelay: KEEP_ALIVE_MS,
  });
  new HttpGuard(HTTP_LIMITS, handle, answerLateRequest).attach(server);
  return server;
}
