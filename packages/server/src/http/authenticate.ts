import type { IncomingHttpHeaders } from "node:http";
import { HEADERS } from "@caisson/protocol";
import { authenticateToken } from "../app/access/token-authenticate.ts";
import type { Actor, AppContext } from "../app/context.ts";

/** Who sends a request with these headers (protocol.md 1.3, 1.4). Throws `INVALID_TOKEN` or `FORBIDDEN`. */
export function authenticate(app: AppContext, headers: IncomingHttpHeaders): Promise<Actor> {
  const [scheme, text] = headers.authorization?.split(/\s+/) ?? [];
  const isBearer = scheme?.toLowerCase() === "bearer" && text !== undefined && text !== "";
  const named = headers[HEADERS.organization];
  return authenticateToken(app, isBearer ? text : null, typeof named === "string" ? named : null);
}
