import { ClientConnection } from "./calls/connection.ts";
import { methods } from "./calls/methods.ts";
import { Editors } from "./editor/editors.ts";
import { clearDirectory } from "./files/clear-directory.ts";
import { agentMemory } from "./host/agent-memory.ts";
import { rehearse } from "./host/rehearsal.ts";
import type { Sandbox } from "./host/sandbox.ts";
import { readSettings } from "./host/settings.ts";
import { delay, startTimer } from "./host/timers.ts";
import { readConfiguration, takeOver } from "./host/waiting.ts";
import { closeQuietly } from "./network/close-quietly.ts";
import { Exposures } from "./network/exposures.ts";
import { HttpServerWatch } from "./network/http-server-watch.ts";
import { Environment } from "./processes/environment.ts";
import { OomDetector } from "./processes/oom.ts";
import { ProcessTable } from "./processes/process-table.ts";
import { terminateAll } from "./processes/terminate.ts";
import { serveSession } from "./sessions/session.ts";
import { acceptUpgrade, type Request, readRequest, respond } from "./wire/http-server.ts";
import { WebSocketPeer } from "./wire/websocket.ts";

/** Time that `POST /stop` may take once the programs had theirs; a client that reads nothing would otherwise hold up the sandbox's end. */
const STOP_TIMEOUT_MS = 100;
const SAFETY_NET_DELAY_MS = 150;
const ACCEPT_RETRY_MS = 100;
/** Connections at a time: each takes a third of a megabyte to begin with. */
const MAX_CONNECTIONS = 128;
const NO_SANDBOX = "This agent has no sandbox yet";
const DEFAULT_STOP_REASON = "the sandbox has ended";

/** The agent's word to the server, about its one sandbox. */
const exposures = new Exposures();
let sandbox = openSandbox(Deno.env.toObject());
/** Until an agent that was started ahead has its configuration, it serves its own rehearsal and then nobody. */
let phase: "rehearsing" | "waiting" | "configuring" | "serving" =
  sandbox.settings.rehearsedProgram === null ? "serving" : "rehearsing";
const connections = new Set<ClientConnection>();
let isStopping = false;

// A mistake in one request must not end the sandbox for all others. Deno loads its events for this, 4 ms that the first command need not
// wait for.
startTimer(SAFETY_NET_DELAY_MS, () => {
  globalThis.addEventListener("unhandledrejection", (event) => {
    event.preventDefault();
    console.error("A promise was rejected and nobody handled it:", event.reason);
  });
});

if (sandbox.settings.rehearsedProgram === null) void startNow();
else void startAhead(sandbox.settings.rehearsedProgram);

async function startNow(): Promise<void> {
  try {
    await clearOld();
    await listen();
  } catch (error) {
    endFailed("The start failed:", error);
  }
}

/** The socket appears when the rehearsal is over, which is how the server knows. An agent that cannot even rehearse ends. */
async function startAhead(program: string): Promise<void> {
  try {
    await rehearse(program, `${sandbox.settings.socketPath}.rehearsal`, serve);
    phase = "waiting";
    await listen();
  } catch (error) {
    endFailed("The rehearsal failed:", error);
  }
}

/** An agent that can never serve must not stay: the server waits for it, or for its end. */
function endFailed(what: string, error: unknown): never {
  console.error(what, error);
  Deno.exit(1);
}

/** Everything of one sandbox, which remembers nothing of what was before. */
function openSandbox(variables: Readonly<Record<string, string>>): Sandbox {
  const { settings, initialEnvironment } = readSettings(variables);
  const environment = new Environment(initialEnvironment);
  const oom = new OomDetector();
  const processes = new ProcessTable(environment, settings.defaultDirectory, oom);
  const editors = new Editors(new ProcessTable(environment, settings.defaultDirectory, oom));
  return { environment, processes, editors, settings, memory: agentMemory(oom.limitBytes()), exposures };
}

async function clearOld(): Promise<void> {
  const { clearedDirectory } = sandbox.settings;
  if (clearedDirectory !== null) await clearDirectory(clearedDirectory);
}

/** Accepts connections for ever. Where one cannot be had, because descriptors have run out, the next may again. */
async function listen(): Promise<void> {
  const listener = Deno.listen({ transport: "unix", path: sandbox.settings.socketPath });
  for (;;) {
    try {
      void serve(await listener.accept());
    } catch (error) {
      console.error("A connection could not be accepted:", error);
      await delay(ACCEPT_RETRY_MS);
    }
  }
}

/** Serves one HTTP connection, which becomes a WebSocket or answers one request. */
async function serve(stream: Deno.Conn): Promise<void> {
  try {
    const request = await readRequest(stream);
    if (request === null) return;
    if (request.path === "/rpc") await serveClient(stream, request);
    else if (request.path === "/health" && request.method === "GET") await respond(stream, "200 OK", "ok");
    else if (request.path === "/stop" && request.method === "POST") await stop(stream, request);
    else if (request.path === "/configure" && request.method === "POST") await configure(stream, request);
    else if (request.path === "/exposures" && request.method === "GET") await exposures.serve(stream);
    else if (request.path === "/listener" && request.method === "GET") await answerListener(stream, request);
    else if (request.path === "/session" && request.method === "GET") await openSession(stream, request);
    else {
      const paths =
        "GET /rpc, GET /health, GET /exposures, GET /listener?pid=PID, GET /session, POST /configure, POST /stop";
      await respond(stream, "404 Not Found", `This is the agent: ${paths}`);
    }
  } catch (error) {
    console.error("A request failed:", error);
  } finally {
    closeQuietly(stream);
  }
}

function isServing(): boolean {
  return phase === "serving" || phase === "rehearsing";
}

async function serveClient(stream: Deno.Conn, request: Request): Promise<void> {
  if (isStopping) return await respond(stream, "503 Service Unavailable", DEFAULT_STOP_REASON);
  if (!isServing()) return await respond(stream, "503 Service Unavailable", NO_SANDBOX);
  if (connections.size >= MAX_CONNECTIONS) {
    return await respond(stream, "503 Service Unavailable", `More than ${MAX_CONNECTIONS} connections to one sandbox`);
  }
  if (!(await acceptUpgrade(stream, request))) return;
  warmUp();
  const peer = new WebSocketPeer(stream, request.leftover, sandbox.settings.pingIntervalMs, sandbox.memory.messages);
  const connection = new ClientConnection({
    sandbox,
    peer,
    methods,
    userAgent: request.headers.get("user-agent") ?? "",
  });
  connections.add(connection);
  await connection.run();
  connections.delete(connection);
}

async function openSession(stream: Deno.Conn, { leftover }: Request): Promise<void> {
  if (isStopping) return await respond(stream, "503 Service Unavailable", DEFAULT_STOP_REASON);
  if (!isServing()) return await respond(stream, "503 Service Unavailable", NO_SANDBOX);
  await serveSession(sandbox, stream, leftover);
}

/** Where the HTTP server of a process listens now, for a name that is bound to it. */
async function answerListener(stream: Deno.Conn, { query }: Request): Promise<void> {
  const process = sandbox.processes.findRunning(Number(new URLSearchParams(query).get("pid")));
  const address = process === undefined ? undefined : HttpServerWatch.of(process).current();
  await respond(stream, "200 OK", JSON.stringify(address ?? null));
}

/**
 * Has Deno load what the first command will need, which it does on first use and takes 4 ms for. The client is busy with our answer to its
 * upgrade meanwhile.
 */
function warmUp(): void {
  void Deno.Command;
  new ReadableStream({ type: "bytes" }).getReader({ mode: "byob" });
  new WritableStream().getWriter();
}

/** Takes the configuration, once and before any client but the rehearsal, which brings one too. */
async function configure(stream: Deno.Conn, request: Request): Promise<void> {
  const isReal = phase === "waiting";
  if (!isReal && phase !== "rehearsing")
    return await respond(stream, "409 Conflict", "This agent has its configuration");
  if (isReal) phase = "configuring";
  const configuration = await readConfiguration(stream, request);
  takeOver(configuration);
  sandbox = openSandbox(configuration.variables);
  await clearOld();
  if (isReal) phase = "serving";
  await respond(stream, "200 OK", "configured");
}

/** Ends the programs, whose last output still reaches their clients, and then the connections. */
async function stop(stream: Deno.Conn, request: Request): Promise<void> {
  isStopping = true;
  const query = new URLSearchParams(request.query);
  const reason = query.get("reason") ?? DEFAULT_STOP_REASON;
  await terminateAll(Number(query.get("grace") ?? 0));
  const { promise: timeout, resolve } = Promise.withResolvers<void>();
  const stopTimer = startTimer(STOP_TIMEOUT_MS, resolve);
  await Promise.race([timeout, Promise.all([...connections].map((connection) => connection.stop(reason)))]);
  stopTimer();
  await respond(stream, "200 OK", "stopped");
}
