import { createSocket, type RemoteInfo, type Socket as UdpSocket } from "node:dgram";
import { once } from "node:events";
import { createServer, type Server, type Socket } from "node:net";
import {
  type Answer,
  AUTHORITATIVE_ANSWER,
  type DecodedPacket,
  decode,
  encode,
  type Packet,
  RECURSION_AVAILABLE,
  RECURSION_DESIRED,
  TRUNCATED_RESPONSE,
} from "dns-packet";
import { listenOnBoth } from "../listen.ts";

/** Answers that matter here by their numbers (RFC 1035, section 4.1.1). */
export const RCODE = {
  success: 0,
  formatError: 1,
  serverFailure: 2,
  noSuchName: 3,
  notImplemented: 4,
  refused: 5,
} as const;

export interface NameAnswer {
  readonly rcode: number;
  readonly records: readonly Answer[];
}

/** Decides about one question of the sandbox with this address. `type` is the record type's name, for example `A`. */
export type AnswerQuestion = (client: string, name: string, type: string, signal: AbortSignal) => Promise<NameAnswer>;

const UDP_PAYLOAD_MIN = 512;
/** What passes unfragmented everywhere (DNS flag day 2020). */
const UDP_PAYLOAD_MAX = 1232;
const QUESTIONS_PER_SANDBOX_MAX = 64;
const CONNECTIONS_PER_SANDBOX_MAX = 16;
const CONNECTION_IDLE_MS = 10_000;
const MESSAGE_BYTES_MAX = 4096;
const UNREAD_BYTES_MAX = 256 * 1024;

/** The name server of sandboxes with a policy, on UDP and TCP. It only speaks the protocol; what is answered is decided elsewhere. */
export class NameForwarder implements AsyncDisposable {
  readonly port: number;
  readonly #udp: UdpSocket;
  readonly #tcp: Server;
  readonly #answer: AnswerQuestion;
  readonly #connections = new Set<Socket>();
  readonly #pending = new Map<string, number>();
  readonly #closing = new AbortController();

  private constructor(udp: UdpSocket, tcp: Server, port: number, answer: AnswerQuestion) {
    this.#udp = udp;
    this.#tcp = tcp;
    this.port = port;
    this.#answer = answer;
    udp.on("message", (message, peer) => void this.#onDatagram(message, peer));
    // A datagram that cannot be delivered concerns nobody else.
    udp.on("error", () => undefined);
    tcp.on("connection", (socket) => this.#onConnection(socket));
  }

  static async listen(address: string, answer: AnswerQuestion): Promise<NameForwarder> {
    const udp = createSocket("udp4");
    const tcp = createServer();
    const port = await listenOnBoth(udp, tcp, address);
    return new NameForwarder(udp, tcp, port, answer);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort();
    for (const socket of this.#connections) socket.destroy();
    const closed = [once(this.#udp, "close"), once(this.#tcp, "close")];
    this.#udp.close();
    this.#tcp.close();
    await Promise.all(closed);
  }

  async #onDatagram(message: Buffer, peer: RemoteInfo): Promise<void> {
    const reply = await this.#reply(message, peer.address, (query) => payloadLimit(query));
    if (reply !== null && !this.#closing.signal.aborted)
      this.#udp.send(reply, peer.port, peer.address, () => undefined);
  }

  #onConnection(socket: Socket): void {
    const client = socket.remoteAddress ?? "";
    const own = [...this.#connections].filter(({ remoteAddress }) => remoteAddress === client);
    socket.on("error", () => undefined);
    if (own.length >= CONNECTIONS_PER_SANDBOX_MAX) {
      socket.destroy();
      return;
    }
    this.#connections.add(socket);
    socket.on("close", () => this.#connections.delete(socket));
    socket.setTimeout(CONNECTION_IDLE_MS, () => socket.destroy());
    let received = Buffer.alloc(0);
    socket.on("data", (chunk) => {
      received = Buffer.concat([received, chunk]);
      for (;;) {
        if (received.length < 2) return;
        const length = received.readUInt16BE(0);
        if (length > MESSAGE_BYTES_MAX) {
          socket.destroy();
          return;
        }
        if (received.length < 2 + length) return;
        const message = received.subarray(2, 2 + length);
        received = received.subarray(2 + length);
        void this.#reply(message, client, () => 65_535).then((reply) => {
          if (reply === null || socket.destroyed) return;
          // A client that asks and does not read must not make the server keep its answers.
          if (socket.writableLength > UNREAD_BYTES_MAX) {
            socket.destroy();
            return;
          }
          const header = Buffer.alloc(2);
          header.writeUInt16BE(reply.length);
          socket.write(Buffer.concat([header, reply]));
        });
      }
    });
  }

  /** The bytes of the answer, or null when there is nobody to answer or too much to do for this sandbox; it will ask again. */
  async #reply(message: Buffer, client: string, limit: (query: DecodedPacket) => number): Promise<Buffer | null> {
    const query = decodeQuery(message);
    if (query === null) return null;
    const [question] = query.questions ?? [];
    const pending = this.#pending.get(client) ?? 0;
    if (pending >= QUESTIONS_PER_SANDBOX_MAX) return null;
    this.#pending.set(client, pending + 1);
    try {
      const isPlain = query.opcode === "QUERY" && query.questions?.length === 1 && question?.class === "IN";
      const answer =
        isPlain && question !== undefined
          ? await this.#answer(client, question.name, question.type, this.#closing.signal)
          : { rcode: RCODE.notImplemented, records: [] };
      return encodeAnswer(query, answer, limit(query));
    } catch {
      return encodeAnswer(query, { rcode: RCODE.serverFailure, records: [] }, limit(query));
    } finally {
      const left = (this.#pending.get(client) ?? 1) - 1;
      if (left === 0) this.#pending.delete(client);
      else this.#pending.set(client, left);
    }
  }
}

type Query = DecodedPacket & { readonly opcode: string };

function decodeQuery(message: Buffer): Query | null {
  try {
    const query = decode(message) as Query;
    return query.type === "query" ? query : null;
  } catch {
    return null;
  }
}

function payloadLimit(query: DecodedPacket): number {
  const option = query.additionals?.find((record) => record.type === "OPT");
  const offered = option?.type === "OPT" ? option.udpPayloadSize : UDP_PAYLOAD_MIN;
  return Math.min(Math.max(offered, UDP_PAYLOAD_MIN), UDP_PAYLOAD_MAX);
}

function encodeAnswer(query: DecodedPacket, { rcode, records }: NameAnswer, limit: number): Buffer {
  const flags = (RECURSION_DESIRED | RECURSION_AVAILABLE | rcode) & ~AUTHORITATIVE_ANSWER;
  const base = { type: "response", id: query.id ?? 0, questions: query.questions ?? [] } as const satisfies Packet;
  const whole = encode({ ...base, flags, answers: [...records] });
  return whole.length <= limit ? whole : encode({ ...base, flags: flags | TRUNCATED_RESPONSE });
}
