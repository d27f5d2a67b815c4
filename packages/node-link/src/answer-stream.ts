import { constants, type Http2Session, type IncomingHttpHeaders, type ServerHttp2Stream } from "node:http2";
import { Socket } from "node:net";
import type { Duplex } from "node:stream";
import type { ImportSpec, Node, SandboxSpec } from "@caisson/node";
import { RENEWAL_PATH, RENEWAL_REQUEST_PATH, type SignedCertificate } from "./certificate-renewal.ts";
import { FRAME, jsonBody, readFrames, writeFrame } from "./frames.ts";
import type { GenerationGate } from "./generation-gate.ts";
import { keptBytes, MAX_JSON_BYTES } from "./limits.ts";
import { encodeError } from "./link-error.ts";
import { isPlainMethod, type PlainMethod } from "./methods.ts";
import { EventNotTakenError, type NodeEvents } from "./node-events.ts";
import { readPieces, writePieces } from "./pieces.ts";

/** Arguments of a call whose body is something else. */
export const ARGUMENTS_HEADER = "caisson-arguments";
export const EVENTS_PATH = "events";
export const DISMISS_PATH = "dismiss";
export const EXPEL_PATH = "expel";

const { NGHTTP2_INTERNAL_ERROR } = constants;

/** What a node serves. */
export interface ServedCalls {
  readonly node: Node;
  readonly events: NodeEvents;
  readonly gate: GenerationGate;
  /** The server of this connection leads from now on: those of others end. */
  keepOnly(session: Http2Session | undefined): void;
  readonly onDismissed: OnDismissed;
  /** This run was shut out, because another node has taken over what it had: it is to end at once, without letting go of anything in order. */
  readonly onExpelled: () => void;
  readonly renewal: {
    request(): Promise<string>;
    /** Resolves when new connections are shown it. Connections of servers that are not believed any more end, but for the one that brings it. */
    accept(signed: SignedCertificate, bringing: Http2Session | undefined): Promise<void>;
  };
}

/** The installation has forgotten this node, at that time in ISO 8601. Resolves when that is remembered, so that it need not be told again. */
export type OnDismissed = (forgottenAt: string) => Promise<void>;

/** Answers one call. What goes wrong is told to the caller; nothing of it is this process's failure. */
export function answerStream(calls: ServedCalls, stream: ServerHttp2Stream, headers: IncomingHttpHeaders): void {
  stream.on("error", () => {});
  answer(calls, stream, headers).catch((error: unknown) => {
    // Before the answer has begun it is the error; after that, the stream breaks.
    if (stream.destroyed) return;
    if (stream.headersSent) stream.close(NGHTTP2_INTERNAL_ERROR);
    else sendError(stream, error);
  });
}

async function answer(calls: ServedCalls, stream: ServerHttp2Stream, headers: IncomingHttpHeaders): Promise<void> {
  const { node, events, gate } = calls;
  const method = headers[":path"]?.slice(1) ?? "";
  // A node that was forgotten has no generation.
  if (method === DISMISS_PATH) return answerDismissal(calls.onDismissed, stream);
  // A run that was shut out begins no generation.
  if (method === EXPEL_PATH) return answerExpulsion(calls, stream);
  // A server has to know the run before it can say which generation it is.
  if (method !== "describe" && gate.admit(headers)) calls.keepOnly(stream.session);
  if (isPlainMethod(method)) return answerPlain(node, method, stream);
  switch (method) {
    case "startSandbox":
      return answerStart(node, stream);
    case "exportDisk":
      return answerExport(node, stream, argumentsOf(headers));
    case "importDisk":
      return answerImport(node, stream, argumentsOf(headers));
    case "openAgent": {
      const [id] = argumentsOf(headers);
      return joinWhenOpen(stream, node.openAgent(String(id)));
    }
    case "connectInside": {
      const [id, port, address] = argumentsOf(headers);
      const target = address === undefined ? [] : [String(address)];
      const inside = await node.connectInside(String(id), Number(port), ...target);
      return join(stream, inside);
    }
    case EVENTS_PATH:
      return sendEvents(events, stream);
    case RENEWAL_REQUEST_PATH:
      stream.resume();
      return sendValue(stream, await calls.renewal.request());
    case RENEWAL_PATH:
      return answerRenewal(calls, stream);
    default:
      throw new Error(
        `This node has no call ${JSON.stringify(method.slice(0, 64))}: give it the version of the server`,
      );
  }
}

async function answerPlain(node: Node, method: PlainMethod, stream: ServerHttp2Stream): Promise<void> {
  const values = await readJson(stream);
  if (!Array.isArray(values)) throw new Error("The arguments are not a list");
  const call = node[method] as (...values: readonly unknown[]) => Promise<unknown>;
  sendValue(stream, await call.apply(node, values));
}

async function answerDismissal(onDismissed: OnDismissed, stream: ServerHttp2Stream): Promise<void> {
  const values = await readJson(stream);
  const forgottenAt = Array.isArray(values) ? values[0] : null;
  if (typeof forgottenAt !== "string" || Number.isNaN(Date.parse(forgottenAt)))
    throw new Error("The dismissal does not say since when");
  await onDismissed(new Date(forgottenAt).toISOString());
  sendValue(stream, undefined);
}

async function answerExpulsion({ gate, onExpelled }: ServedCalls, stream: ServerHttp2Stream): Promise<void> {
  const values = await readJson(stream);
  if (!Array.isArray(values) || values[0] !== gate.runId) throw new Error("Another run of this node was shut out");
  stream.once("close", onExpelled);
  sendValue(stream, undefined);
}

async function answerRenewal({ renewal }: ServedCalls, stream: ServerHttp2Stream): Promise<void> {
  const values = await readJson(stream);
  const [cert, authority] = Array.isArray(values) ? values : [];
  if (typeof cert !== "string" || typeof authority !== "string") throw new Error("There is no certificate");
  await renewal.accept({ cert, authority }, stream.session);
  sendValue(stream, undefined);
}

/** The caller's half stays open: its end, or that of the connection, before the answer is the abort. */
async function answerStart(node: Node, stream: ServerHttp2Stream): Promise<void> {
  const leaving = new AbortController();
  let isAnswered = false;
  const abort = () => {
    if (!isAnswered) leaving.abort(new Error("the caller has left"));
  };
  stream.once("close", abort);
  try {
    const frames = readFrames(stream);
    const { value: first } = await frames.next();
    if (first?.kind !== FRAME.json) throw new Error("There is no sandbox to start");
    void frames.next().then(abort, abort);
    const sandbox = JSON.parse(first.body.toString()) as SandboxSpec;
    try {
      sendValue(stream, await node.startSandbox(sandbox, leaving.signal));
    } finally {
      // Over its next connection the caller may have stopped the sandbox already, before this start arrived.
      if (stream.destroyed) await node.stopSandbox(sandbox.id);
    }
  } finally {
    isAnswered = true;
  }
}

async function answerExport(node: Node, stream: ServerHttp2Stream, [disk]: readonly unknown[]): Promise<void> {
  stream.resume();
  await using exported = await node.exportDisk(disk as Parameters<Node["exportDisk"]>[0]);
  const { sizeBytes, fileSystem, changed } = exported;
  stream.respond({ ":status": 200 });
  await writeFrame(stream, FRAME.json, jsonBody({ sizeBytes, fileSystem, changed }));
  try {
    await writePieces(stream, exported.pieces());
  } catch (error) {
    if (stream.destroyed) return;
    await writeFrame(stream, FRAME.error, jsonBody(encodeError(error)));
  }
  stream.end();
}

async function answerImport(node: Node, stream: ServerHttp2Stream, [disk]: readonly unknown[]): Promise<void> {
  const brokenOff = () => new Error("the caller has broken off the import");
  const leaving = new AbortController();
  stream.once("close", () => leaving.abort(brokenOff()));
  await node.importDisk(disk as ImportSpec, readPieces(readFrames(stream), brokenOff), leaving.signal);
  sendValue(stream, undefined);
}

/** A connection that is refused at once is an error of the call. */
async function joinWhenOpen(stream: ServerHttp2Stream, agent: Duplex): Promise<void> {
  const { promise: opened, resolve, reject } = Promise.withResolvers<void>();
  const onClose = () => reject(new Error("the connection to the agent was closed"));
  const onLeft = () => agent.destroy();
  agent.once("connect", resolve).once("error", reject).once("close", onClose);
  stream.once("close", onLeft);
  if (!(agent instanceof Socket && agent.connecting) && !agent.destroyed) resolve();
  try {
    await opened;
  } finally {
    agent.off("connect", resolve).off("error", reject).off("close", onClose);
    stream.off("close", onLeft);
  }
  join(stream, agent);
}

/** Joins a caller's stream and a connection, each half by itself, at the pace of both. */
function join(stream: ServerHttp2Stream, connection: Duplex): void {
  if (stream.destroyed) {
    connection.destroy();
    return;
  }
  stream.respond({ ":status": 200 });
  let hasFailed = false;
  connection.on("error", () => {
    hasFailed = true;
  });
  connection.once("close", () => {
    // What came before is sent first. A caller that still writes is told that nobody reads any more.
    if (hasFailed || !connection.readableEnded) stream.close(NGHTTP2_INTERNAL_ERROR);
    else stream.close();
  });
  stream.once("close", () => {
    const isOver = stream.rstCode === 0 && stream.readableEnded && connection.readableEnded;
    if (!isOver) connection.destroy();
  });
  stream.pipe(connection);
  connection.pipe(stream);
}

/** Tells the server what happens, until it leaves. */
async function sendEvents(events: NodeEvents, stream: ServerHttp2Stream): Promise<void> {
  stream.respond({ ":status": 200 });
  const unanswered = new Map<number, PromiseWithResolvers<void>>();
  let count = 0;
  const detach = events.attach(async (event) => {
    const id = count++;
    const answered = Promise.withResolvers<void>();
    unanswered.set(id, answered);
    answered.promise.catch(() => {});
    await writeFrame(stream, FRAME.json, jsonBody({ id, event }));
    await answered.promise;
  });
  try {
    for await (const { body } of readFrames(stream)) {
      const { id, problem } = JSON.parse(body.toString()) as { id: number; problem: string | null };
      const answered = unanswered.get(id);
      unanswered.delete(id);
      if (problem === null) answered?.resolve();
      else answered?.reject(new EventNotTakenError(problem));
    }
  } finally {
    detach();
    for (const answered of unanswered.values()) answered.reject(new Error("the server has left"));
  }
  stream.end();
}

function argumentsOf(headers: IncomingHttpHeaders): readonly unknown[] {
  const values: unknown = JSON.parse(decodeURIComponent(String(headers[ARGUMENTS_HEADER] ?? "[]")));
  if (!Array.isArray(values)) throw new Error("The arguments are not a list");
  return values;
}

async function readJson(stream: ServerHttp2Stream): Promise<unknown> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of stream.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
    size += keptBytes(chunk);
    if (size > MAX_JSON_BYTES) throw new Error("The arguments are too long");
    chunks.push(chunk);
  }
  return JSON.parse(Buffer.concat(chunks).toString());
}

function sendValue(stream: ServerHttp2Stream, value: unknown): void {
  if (stream.destroyed) return;
  stream.respond({ ":status": 200, "content-type": "application/json" });
  stream.end(JSON.stringify({ value }));
}

/** The caller may still be sending; it is not waited for. */
function sendError(stream: ServerHttp2Stream, error: unknown): void {
  stream.respond({ ":status": 500, "content-type": "application/json" });
  stream.end(JSON.stringify({ error: encodeError(error) }));
}
