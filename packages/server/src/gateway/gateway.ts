import { randomUUID } from "node:crypto";
import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import { CaissonError } from "@caisson/model";
import { decodeSandboxConfig, HEADERS } from "@caisson/protocol";
import type { Actor, AppContext } from "../app/context.ts";
import { isRegion } from "../app/nodes/node-choice.ts";
import type { LiveSandbox } from "../app/sandboxes/live-sandboxes.ts";
import { requireAgent } from "../app/sandboxes/sandbox-connect.ts";
import { createSandbox } from "../app/sandboxes/sandbox-create.ts";
import { endSandbox, endSandboxSoon, primaryLeft } from "../app/sandboxes/sandbox-end.ts";
import { requireLiveSandbox } from "../app/sandboxes/sandbox-get.ts";
import { authenticate } from "../http/authenticate.ts";
import { answerAndEnd } from "../http/broken-request.ts";
import { isServersFault, toCaissonError } from "../http/errors.ts";
import { originOfRequest, requireHost } from "../http/request-origin.ts";
import {
  type AgentQuestion,
  askAgent,
  type ForwardedConnection,
  joinAgent,
  type WillingAgent,
} from "./forward-upgrade.ts";
import { WaitingClient } from "./waiting-client.ts";

/** How long an agent may take to answer a client, at least. */
const ANSWER_TIMEOUT_MS = 10_000;
const ANSWERS_PER_START = 4;
const CREATE_PATH = "/api/v3/sandboxes/create";
/** As the routes of the other half are written. */
const CONNECT_ROUTE = "/api/v3/sandbox/:id/connect";
const CONNECT_PATH = /^\/api\/v3\/sandbox\/([^/%]{1,64})\/connect$/;

/**
 * The WebSocket half of the server (protocol.md 1.6, 1.7). It authenticates an upgrade, creates or finds the sandbox, hands the upgrade to the
 * agent inside, and from then on only copies bytes.
 */
export async function handleUpgrade(
  app: AppContext,
  request: IncomingMessage,
  socket: Duplex,
  head: Buffer,
): Promise<void> {
  const startedMs = performance.now();
  const traceId = randomUUID();
  const path = URL.parse(request.url ?? "/", "http://localhost")?.pathname ?? "";
  // Ids have no characters that need escapes.
  const connectId = CONNECT_PATH.exec(path)?.[1];
  const isCreate = path === CREATE_PATH;
  const route = isCreate ? CREATE_PATH : connectId === undefined ? "unknown" : CONNECT_ROUTE;
  const client = new WaitingClient(socket, head);
  try {
    requireHost(request);
    const actor = await authenticate(app, request.headers);
    socket.once(
      "close",
      app.connections.add(actor.token.id, () => socket.destroy()),
    );
    const upgrade = { request, socket, client, traceId };
    if (isCreate) await create(app, actor, upgrade);
    else if (connectId !== undefined) await connect(app, await requireLiveSandbox(app, actor, connectId), upgrade);
    else throw new CaissonError("NOT_FOUND", `There is no WebSocket at ${request.url}`);
    app.metrics.httpRequests.inc({ method: "GET", route, status: 101 });
    if (isCreate) app.metrics.countCreate(performance.now() - startedMs);
  } catch (error) {
    if (client.signal.aborted) {
      if (isCreate) app.metrics.countFailedCreate("cancelled");
      app.logger.debug({ traceId }, "a client left before it got an answer");
      socket.destroy();
      return;
    }
    const known = toCaissonError(error);
    if (isServersFault(known)) app.logger.error({ err: known, traceId }, "upgrade failed");
    app.metrics.httpRequests.inc({ method: "GET", route, status: known.status });
    if (isCreate) app.metrics.countFailedCreate(known.code);
    refuse(socket, known, traceId);
  }
}

interface Upgrade {
  readonly request: IncomingMessage;
  readonly socket: Duplex;
  readonly client: WaitingClient;
  readonly traceId: string;
}

/**
 * A create is acknowledged by its 101. Whoever does not get it has no sandbox: a client that leaves before ends the creation wherever it is, and
 * an upgrade that fails ends the sandbox before the error is answered.
 */
async function create(app: AppContext, actor: Actor, upgrade: Upgrade): Promise<void> {
  const { request, client } = upgrade;
  const header = request.headers[HEADERS.config];
  const config = decodeSandboxConfig(typeof header === "string" ? header : undefined, Date.now());
  const met: { willing: WillingAgent | null } = { willing: null };
  const meetAgent = async (openAgent: () => Duplex): Promise<void> => {
    met.willing = await askAgent(request, openAgent(), questionOf(app, client));
  };
  let live: LiveSandbox;
  try {
    live = await createSandbox(app, actor, config, hostRegion(app, request), client.signal, meetAgent);
  } catch (error) {
    met.willing?.agent.destroy();
    throw error;
  }
  try {
    if (met.willing === null) throw new Error("A sandbox was created whose agent nobody has asked");
    const connection = join(app, live, upgrade, met.willing);
    void connection.closed.then(({ isAnswered }) => {
      app.logger.debug({ sandboxId: live.record.id, isAnswered }, "creator disconnected");
      if (isAnswered) void primaryLeft(app, live);
      else void endSandbox(app, live, "cancelled");
    });
  } catch (error) {
    await endSandboxSoon(app, live, client.signal.aborted ? "cancelled" : "start-failed");
    throw error;
  }
}

async function connect(app: AppContext, live: LiveSandbox, upgrade: Upgrade): Promise<void> {
  const { request, client } = upgrade;
  join(app, live, upgrade, await askAgent(request, requireAgent(app, live), questionOf(app, client)));
}

function questionOf(app: AppContext, { signal }: WaitingClient): AgentQuestion {
  // Where starts are given more time, because the machine is slow, so is this.
  const answerTimeoutMs = Math.max(ANSWER_TIMEOUT_MS, app.config.sandboxes.startTimeoutMs / ANSWERS_PER_START);
  return { answerTimeoutMs, signal };
}

function join(
  app: AppContext,
  { record }: LiveSandbox,
  { socket, client, traceId }: Upgrade,
  willing: WillingAgent,
): ForwardedConnection {
  const connection = joinAgent(socket, client, willing, {
    [HEADERS.sandboxId]: record.id,
    [HEADERS.traceId]: traceId,
    // What the time of the end is to be compared with: a client's clock need not agree.
    date: new Date().toUTCString(),
    ...(record.stopAtMs === null ? {} : { [HEADERS.stopAt]: String(record.stopAtMs) }),
  });
  app.logger.debug({ sandboxId: record.id, traceId }, "client connected");
  return connection;
}

/** The JavaScript client says its region only through the host name (protocol.md 1.5). */
function hostRegion(app: AppContext, request: IncomingMessage): string | null {
  const label = originOfRequest(request, app.config.trustedProxies).host.split(".")[0] ?? "";
  return isRegion(app, label) ? label : null;
}

function refuse(socket: Duplex, error: CaissonError, traceId: string): void {
  answerAndEnd(socket, error, { headers: { [HEADERS.traceId]: traceId } });
}
