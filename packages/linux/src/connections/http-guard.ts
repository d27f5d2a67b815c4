import type { IncomingMessage, RequestListener, Server, ServerResponse } from "node:http";
import type { Duplex } from "node:stream";
import { readTcpPeer } from "../calls/tcp-peer.ts";
import { descriptorOf } from "./socket-descriptor.ts";

/** What clients may cost a listener of HTTP before it knows who they are. Every time is that of the whole, so that none is drawn out by trickling. */
export interface HttpLimits {
  /** Connections at a time; more are closed at once. */
  readonly connectionsMax: number;
  /** Requests of one connection that may wait for the one before them; a client that sends more of them, which no library does, is cut off. */
  readonly waitingRequestsMax: number;
  /** From the first byte of a request to the end of its headers. */
  readonly headersMs: number;
  /** From the headers to the end of the body, which is kept in memory; null: as long as it takes, for bodies that are passed on. */
  readonly bodyMs: number | null;
  /** For the rest of a body whose request is answered. */
  readonly restMs: number;
  /** From the end of an answer to its being taken by the client; null: as long as it takes, for answers that are passed on. */
  readonly answerMs: number | null;
  /** Without any request. */
  readonly idleMs: number;
  /** Bytes that all connections may keep in memory together; those that keep the most are closed. */
  readonly bufferedBytesMax: number;
}

export type HttpRefusal = "late-headers" | "late-body" | "headers-in-pieces";

interface Exchange {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
}

/** A connection, and where it stands. */
interface Guarded {
  readonly socket: Bytes;
  current: Exchange | null;
  readonly waiting: Exchange[];
  /** When it began to do what it does: to wait, to send headers, a body, the rest of one, or to take an answer. Milliseconds of `performance`. */
  phase: Phase;
  sinceMs: number;
  /** What has come since then of a body that is passed on. */
  pacedBytes: number;
  /** `bytesRead` when the last request was there. */
  bytesBefore: number;
  /** What it keeps in memory, as it was last looked at. */
  bytes: number;
  /** Pieces of long headers that were tiny. */
  tinyPieces: number;
  /** The last request, while its body still comes although it is answered. */
  rest: IncomingMessage | null;
  isRefused: boolean;
  /** Ends the counting of what comes. */
  stop: () => void;
}

type Phase = "idle" | "headers" | "body" | "work" | "rest" | "answer";
type Bytes = Duplex & { readonly bytesRead: number };

const LOOK_INTERVAL_MS = 250;
/** The most that Node reads at a time. */
const CHUNK_BYTES = 64 * 1024;
const RESUMED_MIN = 64;
/** For each piece that comes the parser copies the whole header so far: long ones must not come in many tiny pieces. */
const LONG_BYTES = 64 * 1024;
const TINY_BYTES = 512;
const TINY_PIECES_MAX = 256;
/** What must come of a body that is passed on in each `bodyMs`: a client that sends less has what it holds for nothing. */
const PACE_BYTES = 64 * 1024;

/** Requests whose bodies are passed on as they come. */
const passedOn = new WeakSet<IncomingMessage>();

/**
 * For a request whose client is known, and whose body is worked on as it comes: it takes as long as it takes, and `bodyMs` becomes the longest that the client may take for the next 64 KiB while
 * it is waited for, and the time for the rest of a body whose request is answered, since clients send much before they look for an answer. Nothing of the body counts as kept.
 */
export function passBodyOn(request: IncomingMessage): void {
  passedOn.add(request);
}

/**
 * The one rule for what a client costs a listener of HTTP/1: how many connections, one request at a time on each, how long each part of it may take,
 * and how many bytes all of them may keep in memory. Node alone reads requests on as long as a client sends them, keeps all their answers, and has
 * no limits on a server that does not listen itself.
 */
export class HttpGuard {
  readonly #limits: HttpLimits;
  readonly #handle: RequestListener;
  readonly #refuse: (refusal: HttpRefusal, socket: Duplex) => void;
  readonly #open = new Map<Duplex, Guarded>();
  /** What all of them keep in memory. */
  #bytes = 0;
  readonly #paused = new Set<Guarded>();
  #timer: NodeJS.Timeout | null = null;

  /** `refuse` answers and ends a connection that is refused with a reason. */
  constructor(limits: HttpLimits, handle: RequestListener, refuse: (refusal: HttpRefusal, socket: Duplex) => void) {
    this.#limits = limits;
    this.#handle = handle;
    this.#refuse = refuse;
  }

  /** Guards a server that has no listener for requests yet, and one for upgrades if it takes any; `event` is the one that brings connections on which requests come. */
  attach(server: Server, event: "connection" | "secureConnection" = "connection"): void {
    server.maxConnections = this.#limits.connectionsMax;
    // The times here are stricter.
    server.requestTimeout = 0;
    server.headersTimeout = 0;
    server.keepAliveTimeout = 0;
    server.on(event, (socket: Bytes) => this.#add(socket));
    server.on("request", (request, response) => this.#receive(request, response));
    server.prependListener("upgrade", (_request, socket) => this.#handOver(socket));
  }

  /** The listener that takes upgrades owns the connection now; it finds it destroyed when requests on it are not answered. */
  #handOver(socket: Duplex): void {
    const guarded = this.#open.get(socket);
    if (guarded?.current !== null || guarded.isRefused) socket.destroy();
    guarded?.stop();
    this.#forget(socket);
  }

  #add(socket: Bytes): void {
    const guarded: Guarded = {
      socket,
      current: null,
      waiting: [],
      phase: "idle",
      sinceMs: performance.now(),
      pacedBytes: 0,
      bytesBefore: socket.bytesRead,
      bytes: 0,
      tinyPieces: 0,
      rest: null,
      isRefused: false,
      stop: () => {},
    };
    this.#open.set(socket, guarded);
    socket.once("close", () => this.#forget(socket));
    // After the parser has read it. A look now and then would be too late: gigabytes can come between two.
    const count = (chunk: Buffer): void => this.#receiveChunk(guarded, chunk.length);
    socket.on("data", count);
    guarded.stop = () => socket.off("data", count);
    this.#timer ??= setInterval(() => this.#look(), LOOK_INTERVAL_MS).unref();
  }

  #forget(socket: Duplex): void {
    const guarded = this.#open.get(socket);
    if (guarded !== undefined) {
      this.#measure(guarded, 0);
      this.#paused.delete(guarded);
    }
    this.#open.delete(socket);
    if (this.#open.size > 0 || this.#timer === null) return;
    clearInterval(this.#timer);
    this.#timer = null;
  }

  #receive(request: IncomingMessage, response: ServerResponse): void {
    const guarded = this.#open.get(request.socket);
    if (guarded === undefined || guarded.isRefused) return;
    if (guarded.current === null) this.#begin(guarded, { request, response });
    else if (guarded.waiting.length < this.#limits.waitingRequestsMax) guarded.waiting.push({ request, response });
    else this.#cut(guarded);
  }

  /** Hands out one request; the next one follows when its answer is with the kernel. */
  #begin(guarded: Guarded, exchange: Exchange): void {
    guarded.current = exchange;
    guarded.rest = null;
    guarded.bytesBefore = guarded.socket.bytesRead;
    this.#enter(guarded, "body");
    exchange.response.once("close", () => {
      guarded.current = null;
      guarded.rest = exchange.request;
      this.#follow(guarded);
      const next = guarded.waiting.shift();
      if (next !== undefined && !guarded.socket.destroyed && !guarded.isRefused) this.#begin(guarded, next);
    });
    this.#handle(exchange.request, exchange.response);
  }

  #enter(guarded: Guarded, phase: Phase): void {
    if (guarded.phase === phase) return;
    guarded.phase = phase;
    this.#paceAnew(guarded);
  }

  #paceAnew(guarded: Guarded): void {
    guarded.pacedBytes = 0;
    guarded.sinceMs = performance.now();
  }

  #end(guarded: Guarded, refusal: HttpRefusal): void {
    // An answer that has begun must not get another one into its middle.
    if (guarded.current?.response.headersSent === true) {
      this.#cut(guarded);
      return;
    }
    guarded.isRefused = true;
    this.#refuse(refusal, guarded.socket);
  }

  #cut(guarded: Guarded): void {
    guarded.isRefused = true;
    guarded.waiting.length = 0;
    this.#paused.delete(guarded);
    guarded.socket.destroy();
  }

  #look(): void {
    const nowMs = performance.now();
    for (const guarded of this.#open.values()) {
      if (guarded.isRefused) continue;
      this.#follow(guarded);
      this.#judge(guarded, nowMs - guarded.sinceMs);
      this.#measure(guarded, this.#bufferedBytes(guarded));
    }
    this.#makeRoom();
    this.#resumePaused();
  }

  /**
   * Headers are kept until they are whole. When all connections together keep half of what they may, those that have begun wait, unread, and nobody
   * else does: most requests come in one piece.
   */
  #receiveChunk(guarded: Guarded, length: number): void {
    this.#follow(guarded);
    if (guarded.phase === "body" && isPassedOn(guarded.current?.request)) {
      guarded.pacedBytes += length;
      if (guarded.pacedBytes >= PACE_BYTES) this.#paceAnew(guarded);
    }
    this.#measure(guarded, this.#bufferedBytes(guarded));
    if (guarded.phase !== "headers") guarded.tinyPieces = 0;
    else if (length < TINY_BYTES && guarded.bytes > LONG_BYTES) guarded.tinyPieces += 1;
    if (guarded.tinyPieces > TINY_PIECES_MAX) {
      this.#end(guarded, "headers-in-pieces");
      return;
    }
    if (guarded.phase !== "headers" || this.#bytes <= this.#limits.bufferedBytesMax / 2) return;
    guarded.socket.pause();
    this.#paused.add(guarded);
  }

  /**
   * Lets as many read on as there is room for, those first that have waited longest; some always, from the other half of the room, so that those
   * that wait do not keep each other waiting. A client that has gone is seen by the kernel only, because nobody reads what it sent.
   */
  #resumePaused(): void {
    for (const guarded of this.#paused) if (hasEnded(guarded.socket)) this.#cut(guarded);
    let room = Math.max(this.#limits.bufferedBytesMax / 2 - this.#bytes, RESUMED_MIN * CHUNK_BYTES);
    for (const guarded of this.#paused) {
      if (room <= 0) return;
      this.#paused.delete(guarded);
      guarded.socket.resume();
      room -= CHUNK_BYTES;
    }
  }

  #measure(guarded: Guarded, bytes: number): void {
    this.#bytes += bytes - guarded.bytes;
    guarded.bytes = bytes;
  }

  /** Cuts off those that keep the most, until the others are within the limit. */
  #makeRoom(): void {
    const { bufferedBytesMax } = this.#limits;
    if (this.#bytes <= bufferedBytesMax) return;
    for (const guarded of [...this.#open.values()].sort((one, other) => other.bytes - one.bytes)) {
      if (this.#bytes <= bufferedBytesMax) return;
      this.#cut(guarded);
      this.#measure(guarded, 0);
    }
  }

  /** Notices where the connection stands. */
  #follow(guarded: Guarded): void {
    const { current, rest, socket } = guarded;
    if (rest?.complete === true) {
      guarded.rest = null;
      guarded.bytesBefore = socket.bytesRead;
    }
    if (current?.response.writableEnded === true) this.#enter(guarded, "answer");
    else if (current !== null) this.#enter(guarded, current.request.complete ? "work" : "body");
    else if (guarded.rest !== null) this.#enter(guarded, "rest");
    else this.#enter(guarded, socket.bytesRead > guarded.bytesBefore ? "headers" : "idle");
  }

  #judge(guarded: Guarded, forMs: number): void {
    const { headersMs, bodyMs, restMs, answerMs, idleMs } = this.#limits;
    switch (guarded.phase) {
      case "headers":
        if (forMs > headersMs) this.#end(guarded, "late-headers");
        break;
      case "body":
        // What has come and is not read yet is not the client's delay.
        if (isPassedOn(guarded.current?.request) && (guarded.current?.request.readableLength ?? 0) > 0)
          this.#paceAnew(guarded);
        else if (bodyMs !== null && forMs > bodyMs) this.#end(guarded, "late-body");
        break;
      case "rest":
        if (forMs > (isPassedOn(guarded.rest) ? (bodyMs ?? restMs) : restMs)) this.#cut(guarded);
        break;
      case "answer":
        if (answerMs !== null && forMs > answerMs) this.#cut(guarded);
        break;
      case "idle":
        if (forMs > idleMs) this.#cut(guarded);
        break;
      case "work":
        break;
      default:
        guarded.phase satisfies never;
    }
  }

  /** What came of a request that is not whole, and what the client has not taken of its answers. */
  #bufferedBytes(guarded: Guarded): number {
    const { socket, bytesBefore, phase, current } = guarded;
    const isKept =
      phase === "headers" || (phase === "body" && this.#limits.bodyMs !== null && !isPassedOn(current?.request));
    return socket.writableLength + (isKept ? socket.bytesRead - bytesBefore : 0);
  }
}

function isPassedOn(request: IncomingMessage | null | undefined): boolean {
  return request != null && passedOn.has(request);
}

function hasEnded(socket: Duplex): boolean {
  const descriptor = descriptorOf(socket);
  return descriptor === null || readTcpPeer(descriptor).hasEnded;
}
