import { type ClientHttp2Stream, constants } from "node:http2";
import type { Duplex } from "node:stream";
import { setTimeout as delay } from "node:timers/promises";
import type {
  DiskExport,
  DiskPiece,
  ExportSpec,
  ImportSpec,
  Node,
  NodeDescription,
  SandboxSpec,
  StartedSandbox,
  TakeNodeEvent,
} from "@caisson/node";
import { ARGUMENTS_HEADER, DISMISS_PATH, EVENTS_PATH, EXPEL_PATH } from "./answer-stream.ts";
import { type AnsweringMethod, isAnswer, parseCleaned, readEvent } from "./answers.ts";
import {
  RENEWAL_PATH,
  RENEWAL_REQUEST_PATH,
  type ShownCertificate,
  type SignedCertificate,
  shownCertificate,
} from "./certificate-renewal.ts";
import { connectNode, type Link, LinkProblem, type NodeAddress, requestOn } from "./connect-node.ts";
import type { LinkCredentials } from "./credentials.ts";
import { FRAME, jsonBody, readFrames, writeFrame } from "./frames.ts";
import { GENERATION_HEADER, RUN_HEADER, TERM_HEADER } from "./generation-gate.ts";
import { maxAnswerBytes } from "./limits.ts";
import { decodeError } from "./link-error.ts";
import { LinkStream } from "./link-stream.ts";
import { DEADLINES_MS, type PlainMethod } from "./methods.ts";
import type { LinkEvent } from "./node-events.ts";
import { NodeProblems } from "./node-problems.ts";
import { readPieces, writePieces } from "./pieces.ts";
import { readAnswer } from "./read-answer.ts";
import type { LinkLogger } from "./serve-node.ts";
import { breakOff } from "./watch-peer.ts";

const { NGHTTP2_CANCEL } = constants;

const CONNECT_TIMEOUT_MS = 10_000;
/** Of a try that somebody waits for, and that confirms others. */
const CONFIRM_TIMEOUT_MS = 5_000;
const FIRST_PAUSE_MS = 200;
const LONGEST_PAUSE_MS = 10_000;
/** A connection that lasted so long was a good one: the next try comes soon. */
const GOOD_CONNECTION_MS = 10_000;
/** How long a start that was aborted is waited for; ending the sandbox waits for the rest. */
const ABORT_WAIT_MS = 30_000;
/** How long an answer may take that is none to a call of `Node`. */
const ASK_MS = 30_000;
/** Of an error that comes instead of a connection or an export. */
const MAX_ERROR_BYTES = 64 * 1024;
/** Events that are being taken; a node that tells faster waits. */
const MAX_EVENTS_AT_ONCE = 64;

export interface LinkedNodeOptions {
  readonly nodeId: string;
  /** Asked before each try to connect, so that it may change. */
  readonly address: () => Promise<NodeAddress>;
  /** Asked before each try to connect, so that a certificate may be renewed. While the installation's authority is, there are several: the next one is shown where a node does not accept the one before. */
  readonly credentials: () => Promise<readonly LinkCredentials[]>;
  /** In which the server leads its installation: calls of an earlier one are refused from then on. 0 where no other server can take its place. */
  readonly term: number;
  readonly takeEvent: TakeNodeEvent;
  /** The node's process ends: its sandboxes are to be ended now. Resolves when they are. */
  readonly onStopping: () => Promise<void>;
  /**
   * A connection stands. A run that is new to this object takes no call but `describe` until `begin` has been called; one that it knows goes on at once. Events come from then on.
   */
  readonly onConnected: (description: NodeDescription) => void;
  /** The connection was lost; it is tried again. Not called for tries that fail. */
  readonly onLost: (reason: string) => void;
  readonly logger: LinkLogger;
}

type Values<M extends keyof Node> = Parameters<Node[M]>;

/**
 * A node in another process, over one connection that is made again when it is lost. A call without a connection, and one that is under way when it is lost or past
 * its deadline, fails with `NODE_UNAVAILABLE`; what it asked for may have been done, or still be under way.
 */
export class LinkedNode implements Node, AsyncDisposable {
  readonly #options: LinkedNodeOptions;
  readonly #problems: NodeProblems;
  readonly #closing = new AbortController();
  readonly #running: Promise<void>;
  #link: Link | null = null;
  #begun: { readonly runId: string; readonly generation: number } | null = null;
  /** Why there is no connection. */
  #reason = "it has not been connected yet";
  #triedAddress: NodeAddress | null = null;
  /** Aborted, it ends the pause before the next try. */
  #pause = new AbortController();
  #confirming: Promise<boolean> | null = null;

  constructor(options: LinkedNodeOptions) {
    this.#options = options;
    this.#problems = new NodeProblems(options.nodeId);
    this.#running = this.#run();
  }

  /** What the node said of itself when it was connected. Null: there is no connection. */
  get connected(): NodeDescription | null {
    return this.#link?.description ?? null;
  }

  /** Of the certificate that the node shows to new connections. Null: there is none. */
  get certificate(): ShownCertificate | null {
    return this.#link?.certificate ?? null;
  }

  /** Why there is no connection, as the end of a sentence. Null: there is one. */
  get problem(): string | null {
    return this.#link === null ? this.#reason : null;
  }

  /** Where the last try to connect that is over went, which `problem` tells of. Null: none is since there was a connection, or it ended before the network was used. */
  get triedAddress(): NodeAddress | null {
    return this.#triedAddress;
  }

  /**
   * Whether it can be reached: tries to connect now, beside the tries that are made anyway, for 5 s at most. Where it answers, the next of those comes at once. Calls at the same time share a try. Throws `NODE_UNAVAILABLE` where none can be made, as when the store does not tell
   * the address.
   */
  async isThere(): Promise<boolean> {
    if (this.#link !== null) return true;
    this.#confirming ??= this.#confirm().finally(() => {
      this.#confirming = null;
    });
    return this.#confirming;
  }

  /** From here on, calls to the run that is connected are of that generation, also after the connection was lost. Throws when it is another run meanwhile. */
  begin(runId: string, generation: number): void {
    const link = this.#requireLink();
    if (link.description.runId !== runId)
      throw this.#problems.unavailable("it was started again meanwhile, and that run has not begun yet");
    this.#begun = { runId, generation };
    void this.#receiveEvents(link);
  }

  /** Tells the node that its installation has forgotten it, at that time in ISO 8601, whatever run of it is connected. */
  async dismiss(forgottenAt: string): Promise<void> {
    await this.#ask(requestOn(this.#requireLink().session, DISMISS_PATH, {}), DISMISS_PATH, [forgottenAt]);
  }

  /** Tells the run that is connected that it may do nothing more, because it was shut out: it ends at once. Throws when it is another run meanwhile. */
  async expel(runId: string): Promise<void> {
    await this.#ask(requestOn(this.#requireLink().session, EXPEL_PATH, {}), EXPEL_PATH, [runId]);
  }

  /**
   * Gives the node a new certificate, for a new key that never leaves it. `sign` gets its signing request, in PEM form. Connections that stand stay, and new ones are shown the new certificate. It resolves when that is on the
   * node's stable storage; after a failure the node has the old one or the new one.
   */
  async renewCertificate(sign: (signingRequest: string) => Promise<SignedCertificate>): Promise<void> {
    const link = this.#requireLink();
    const request = await this.#ask(this.#request(RENEWAL_REQUEST_PATH), RENEWAL_REQUEST_PATH, []);
    if (typeof request !== "string") throw this.#problems.wrong(RENEWAL_REQUEST_PATH);
    const { cert, authority } = await sign(request);
    if (this.#requireLink() !== link) throw this.#problems.lost(RENEWAL_PATH);
    await this.#ask(this.#request(RENEWAL_PATH), RENEWAL_PATH, [cert, authority]);
    link.certificate = shownCertificate(cert);
  }

  readonly describe: Node["describe"] = (...values) => this.#call("describe", values);
  readonly prepare: Node["prepare"] = (...values) => this.#call("prepare", values);
  readonly poolCapacity: Node["poolCapacity"] = (...values) => this.#call("poolCapacity", values);
  readonly ownPoolUsage: Node["ownPoolUsage"] = (...values) => this.#call("ownPoolUsage", values);
  readonly growPool: Node["growPool"] = (...values) => this.#call("growPool", values);
  readonly makeRoom: Node["makeRoom"] = (...values) => this.#call("makeRoom", values);
  readonly createDisk: Node["createDisk"] = (...values) => this.#call("createDisk", values);
  readonly sealDisk: Node["sealDisk"] = (...values) => this.#call("sealDisk", values);
  readonly growDisk: Node["growDisk"] = (...values) => this.#call("growDisk", values);
  readonly deleteDisk: Node["deleteDisk"] = (...values) => this.#call("deleteDisk", values);
  readonly recoverDisk: Node["recoverDisk"] = (...values) => this.#call("recoverDisk", values);
  readonly fence: Node["fence"] = (...values) => this.#call("fence", values);
  readonly getDisk: Node["getDisk"] = (...values) => this.#call("getDisk", values);
  readonly measureDisk: Node["measureDisk"] = (...values) => this.#call("measureDisk", values);
  readonly tendDisk: Node["tendDisk"] = (...values) => this.#call("tendDisk", values);
  readonly listDisks: Node["listDisks"] = (...values) => this.#call("listDisks", values);
  readonly listMountedDisks: Node["listMountedDisks"] = (...values) => this.#call("listMountedDisks", values);
  readonly stopSandbox: Node["stopSandbox"] = (...values) => this.#call("stopSandbox", values);
  readonly listSandboxes: Node["listSandboxes"] = (...values) => this.#call("listSandboxes", values);
  readonly ownEnd: Node["ownEnd"] = (...values) => this.#call("ownEnd", values);

  async placesOf(...[region, ids]: Values<"placesOf">): ReturnType<Node["placesOf"]> {
    const places = await this.#call("placesOf", [region, ids]);
    // Who asks takes them one by one.
    if (places.length !== ids.length) throw this.#problems.wrong("placesOf");
    return places;
  }

  async startSandbox(sandbox: SandboxSpec, signal: AbortSignal): Promise<StartedSandbox> {
    signal.throwIfAborted();
    const stream = this.#request("startSandbox");
    const answer = this.#answer(stream, "startSandbox");
    // The node hears of an abort by the end of this half, and answers when nothing is under way any more.
    const onAbort = (): void => {
      stream.end();
      const timer = setTimeout(() => stream.close(NGHTTP2_CANCEL), ABORT_WAIT_MS).unref();
      stream.once("close", () => clearTimeout(timer));
    };
    signal.addEventListener("abort", onAbort, { once: true });
    try {
      await writeFrame(stream, FRAME.json, jsonBody(sandbox)).catch(() => {});
      return (await answer) as StartedSandbox;
    } catch (error) {
      signal.throwIfAborted();
      throw error;
    } finally {
      signal.removeEventListener("abort", onAbort);
      if (!stream.writableEnded) stream.end();
    }
  }

  async exportDisk(disk: ExportSpec): Promise<DiskExport> {
    const stream = this.#request("exportDisk", [disk]);
    stream.end();
    const deadline = this.#watchDeadline(stream, "exportDisk");
    try {
      await this.#requireAccepted(stream, "exportDisk");
      const frames = readFrames(stream);
      const { value: head } = await frames.next().catch(() => ({ value: undefined }));
      if (head?.kind !== FRAME.json) throw this.#problems.lost("exportDisk");
      const answer = this.#requireAnswer("exportDisk", parseFrame(head.body)) as DiskExport;
      const { sizeBytes, fileSystem, changed } = answer;
      deadline.pause();
      const lost = () => this.#problems.lost("exportDisk");
      return {
        sizeBytes,
        fileSystem,
        ...(changed === undefined ? {} : { changed }),
        async *pieces() {
          let told: Error | null = null;
          const decode = (body: Buffer): Error => {
            told = decodeError(parseFrame(body));
            return told;
          };
          const pieces = readPieces(frames, decode);
          let endOffset = 0;
          for (;;) {
            deadline.restart();
            const next = await pieces.next().catch(() => {
              throw told ?? lost();
            });
            deadline.pause();
            if (next.done) return;
            const { offset, bytes } = next.value;
            // Who reads them relies on their order and bounds, and a node may be in foreign hands.
            if (bytes.length === 0 || offset < endOffset || offset + bytes.length > sizeBytes)
              throw new Error("the node sends pieces that are not of the snapshot: look at its log");
            endOffset = offset + bytes.length;
            yield next.value;
          }
        },
        async [Symbol.asyncDispose]() {
          if (!stream.closed) stream.close(NGHTTP2_CANCEL);
          stream.resume();
        },
      };
    } catch (error) {
      stream.close(NGHTTP2_CANCEL);
      throw error;
    }
  }

  async importDisk(disk: ImportSpec, pieces: AsyncIterable<DiskPiece>, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    const stream = this.#request("importDisk", [disk]);
    const deadline = this.#watchDeadline(stream, "importDisk");
    const answer = this.#answer(stream, "importDisk", deadline);
    let sourceError: { readonly error: unknown } | null = null;
    const source = async function* (): AsyncGenerator<DiskPiece, void> {
      try {
        yield* pieces;
      } catch (error) {
        sourceError = { error };
        throw error;
      }
    };
    writePieces(stream, source(), deadline.restart).then(
      () => stream.end(),
      // A node that has refused it reads no more.
      () => stream.close(NGHTTP2_CANCEL),
    );
    // The node hears of an abort by the stream's end, and what undoes the import waits there until it is over.
    const onAbort = () => stream.close(NGHTTP2_CANCEL);
    signal.addEventListener("abort", onAbort, { once: true });
    try {
      await answer;
    } catch (error) {
      signal.throwIfAborted();
      if (sourceError !== null) throw (sourceError as { readonly error: unknown }).error;
      throw error;
    } finally {
      signal.removeEventListener("abort", onAbort);
      if (!stream.writableEnded) stream.close(NGHTTP2_CANCEL);
    }
  }

  openAgent(id: string): Duplex {
    // Its end says all that a caller who listens for nothing else has to know.
    return this.#open("openAgent", [id]).on("error", () => {});
  }

  async connectInside(id: string, port: number, address?: string): Promise<Duplex> {
    const connection = this.#open("connectInside", address === undefined ? [id, port] : [id, port, address]);
    await connection.opened;
    return connection;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort();
    await Promise.allSettled([this.#running, this.#confirming]);
  }

  #open(method: "openAgent" | "connectInside", values: readonly unknown[]): LinkStream {
    return new LinkStream({
      open: () => this.#request(method, values),
      readError: (stream) => this.#readError(stream, method),
      lost: () => this.#problems.lost(method),
      deadlineMs: DEADLINES_MS[method],
    });
  }

  /** What is no call of `Node`. */
  async #ask(stream: ClientHttp2Stream, path: string, values: readonly unknown[]): Promise<unknown> {
    stream.end(JSON.stringify(values));
    const timer = setTimeout(() => stream.close(NGHTTP2_CANCEL), ASK_MS);
    const answer = await readAnswer(stream, MAX_ERROR_BYTES).finally(() => clearTimeout(timer));
    if (answer.kind === "value") return answer.value;
    if (answer.kind === "error") throw decodeError(answer.error);
    throw answer.kind === "lost" ? this.#problems.lost(path) : this.#problems.wrong(path);
  }

  #call<M extends PlainMethod>(method: M, values: Values<M>): ReturnType<Node[M]> {
    const call = async (): Promise<unknown> => {
      const stream = this.#request(method);
      stream.end(JSON.stringify(values));
      return this.#answer(stream, method);
    };
    // What a node answers is of the form that its method gives.
    return call() as ReturnType<Node[M]>;
  }

  #request(method: string, values?: readonly unknown[]): ClientHttp2Stream {
    const { session, description } = this.#requireLink();
    if (method === "describe") return requestOn(session, method, {});
    if (this.#begun?.runId !== description.runId)
      throw this.#problems.unavailable("it was started again, and what ran there before is being settled");
    return requestOn(session, method, {
      [RUN_HEADER]: this.#begun.runId,
      [GENERATION_HEADER]: String(this.#begun.generation),
      [TERM_HEADER]: String(this.#options.term),
      ...(values === undefined ? {} : { [ARGUMENTS_HEADER]: encodeURIComponent(JSON.stringify(values)) }),
    });
  }

  /** Resolves when the node has begun to answer; throws what it answers instead. */
  async #requireAccepted(stream: ClientHttp2Stream, method: string): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<number | null>();
    stream.once("response", (headers) => resolve(headers[":status"] ?? null)).once("close", () => resolve(null));
    const status = await promise;
    if (status === null) throw this.#problems.lost(method);
    if (status !== 200) throw await this.#readError(stream, method);
  }

  async #answer(
    stream: ClientHttp2Stream,
    method: AnsweringMethod,
    deadline = this.#watchDeadline(stream, method),
  ): Promise<unknown> {
    const answer = await readAnswer(stream, maxAnswerBytes(method));
    deadline.pause();
    switch (answer.kind) {
      case "value":
        return this.#requireAnswer(method, answer.value);
      case "error":
        throw decodeError(answer.error);
      case "wrong":
        throw this.#problems.wrong(method);
      case "lost":
        throw deadline.isOver() ? this.#problems.late(method) : this.#problems.lost(method);
    }
  }

  #requireAnswer(method: AnsweringMethod, value: unknown): unknown {
    if (!isAnswer(method, value)) throw this.#problems.wrong(method);
    return value;
  }

  async #readError(stream: ClientHttp2Stream, method: string): Promise<Error> {
    const answer = await readAnswer(stream, MAX_ERROR_BYTES);
    if (answer.kind === "error") return decodeError(answer.error);
    return answer.kind === "lost" ? this.#problems.lost(method) : this.#problems.wrong(method);
  }

  #watchDeadline(stream: ClientHttp2Stream, method: keyof Node): Deadline {
    let isOver = false;
    let timer: NodeJS.Timeout | undefined;
    const pause = () => clearTimeout(timer);
    const restart = (): void => {
      clearTimeout(timer);
      timer = setTimeout(() => {
        isOver = true;
        stream.close(NGHTTP2_CANCEL);
      }, DEADLINES_MS[method]).unref();
    };
    restart();
    stream.once("close", pause);
    return { restart, pause, isOver: () => isOver };
  }

  #requireLink(): Link {
    const link = this.#link;
    if (link === null || link.session.closed || link.session.destroyed)
      throw this.#problems.unavailable("there is no connection to it");
    return link;
  }

  async #run(): Promise<void> {
    const { signal } = this.#closing;
    const { nodeId, logger, onConnected, onLost } = this.#options;
    let pauseMs = FIRST_PAUSE_MS;
    let told = "";
    while (!signal.aborted) {
      const startedMs = performance.now();
      try {
        const link = await this.#connect();
        this.#link = link;
        told = "";
        logger.info({ nodeId }, "connected to the node");
        const closed = new Promise<void>((resolve) => link.session.once("close", () => resolve()));
        this.#triedAddress = link.address;
        if (this.#begun?.runId === link.description.runId) void this.#receiveEvents(link);
        onConnected(link.description);
        await closed;
        // Nothing has shown yet that it cannot be made again.
        this.#triedAddress = null;
        this.#reason = "the connection was lost, and is being made again";
        logger.warn({ nodeId }, "the connection to the node was lost");
      } catch (error) {
        this.#reason = (error as Error).message;
        if (!signal.aborted && told !== this.#reason)
          logger.warn({ nodeId, reason: this.#reason }, "cannot connect to the node; it is tried again");
        told = this.#reason;
      }
      const wasConnected = this.#link !== null;
      this.#link = null;
      if (wasConnected) onLost(this.#reason);
      pauseMs = performance.now() - startedMs > GOOD_CONNECTION_MS && wasConnected ? FIRST_PAUSE_MS : pauseMs;
      this.#pause = new AbortController();
      const untilTry = AbortSignal.any([signal, this.#pause.signal]);
      await delay(pauseMs * (0.5 + Math.random()), undefined, { signal: untilTry }).catch(() => {});
      pauseMs = Math.min(2 * pauseMs, LONGEST_PAUSE_MS);
    }
  }

  async #confirm(): Promise<boolean> {
    try {
      const { session, socket } = await this.#connect(CONFIRM_TIMEOUT_MS);
      breakOff(session, socket);
    } catch (error) {
      if (error instanceof LinkProblem && !this.#closing.signal.aborted) return false;
      throw this.#problems.unavailable((error as Error).message);
    }
    this.#pause.abort();
    return true;
  }

  async #connect(timeoutMs = CONNECT_TIMEOUT_MS): Promise<Link> {
    const { nodeId, logger } = this.#options;
    const address = await this.#options.address();
    const credentials = await this.#options.credentials();
    try {
      return await connectNode({ nodeId, address, timeoutMs, closing: this.#closing.signal, logger }, credentials);
    } catch (error) {
      if (error instanceof LinkProblem) this.#triedAddress = address;
      throw error;
    }
  }

  /** Takes what the node tells, and says so, until the connection ends. */
  async #receiveEvents(link: Link): Promise<void> {
    if (link.isReceivingEvents) return;
    link.isReceivingEvents = true;
    const { nodeId, logger } = this.#options;
    const stream = this.#request(EVENTS_PATH);
    try {
      await this.#requireAccepted(stream, EVENTS_PATH);
    } catch (error) {
      // A later generation leads the node: calls fail too, and trying again would not help.
      logger.warn({ err: error, nodeId }, "the node does not tell this server what happens there");
      link.isReceivingEvents = false;
      return;
    }
    try {
      const regions: ReadonlySet<string> = new Set(link.description.regions.map(({ name }) => name));
      const taking = new Set<Promise<void>>();
      let hasToldOfWrong = false;
      for await (const { body } of readFrames(stream)) {
        const { id, event } = readEvent(body, regions);
        if (event === null && !hasToldOfWrong) {
          hasToldOfWrong = true;
          logger.warn({ nodeId }, "the node tells of events that are not known here: look at what runs there");
        }
        const taken = this.#takeEvent(event)
          .then((problem) => writeFrame(stream, FRAME.json, jsonBody({ id, problem })))
          // The node tells it again on the next connection.
          .catch(() => {})
          .finally(() => taking.delete(taken));
        taking.add(taken);
        if (taking.size >= MAX_EVENTS_AT_ONCE) await Promise.race(taking);
      }
    } catch (error) {
      logger.warn({ err: error, nodeId }, "the events of the node were cut off");
    }
    // What is told then would be missed.
    breakOff(link.session, link.socket);
  }

  /** Resolves to why it could not be taken; null: it was. */
  async #takeEvent(event: LinkEvent | null): Promise<string | null> {
    const { takeEvent, onStopping } = this.#options;
    if (event === null) return "This is no event that the server knows";
    try {
      await (event.kind === "node-stopping" ? onStopping() : takeEvent(event));
      return null;
    } catch (error) {
      return String(error);
    }
  }
}

interface Deadline {
  restart(): void;
  pause(): void;
  isOver(): boolean;
}

/** Null, which no answer is, where it is no JSON. */
function parseFrame(body: Buffer): unknown {
  try {
    return parseCleaned(body);
  } catch {
    return null;
  }
}
