import { randomInt } from "node:crypto";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { connect } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import {
  type Answer,
  type DecodedPacket,
  decode,
  encode,
  type Packet,
  RECURSION_DESIRED,
  streamEncode,
} from "dns-packet";
import { normalizeName } from "../policy.ts";

const TRY_TIMEOUT_MS = 2_500;
const TRIES = 2;
/** After that, the next server is asked too. */
const SILENCE_MS = 400;
const DNS_PORT = 53;
const CNAME_CHAIN_MAX = 16;

/** What a name server says about the IPv4 addresses of a name. */
export interface Resolution {
  readonly rcode: "NOERROR" | "NXDOMAIN";
  /** From the name to the one that has the addresses. */
  readonly aliases: readonly { readonly name: string; readonly target: string; readonly ttl: number }[];
  readonly addresses: readonly { readonly name: string; readonly address: string; readonly ttl: number }[];
}

/**
 * Asks the servers in turn: the next one when one has failed, or has been silent for a moment, and still takes the late answer. Rejects when none
 * gives a usable answer in time.
 */
export async function resolveName(servers: readonly string[], name: string, signal: AbortSignal): Promise<Resolution> {
  const answered = new AbortController();
  const stop = AbortSignal.any([signal, answered.signal]);
  const attempts: Promise<void>[] = [];
  const answers: Resolution[] = [];
  let failure: unknown = new Error("There is no name server");
  const attempt = async (server: string): Promise<void> => {
    try {
      answers.push(readResolution(await ask(server, name, stop), name));
      answered.abort();
    } catch (error) {
      failure = error;
    }
  };
  for (const server of Array.from({ length: TRIES }, () => servers).flat()) {
    const current = attempt(server);
    attempts.push(current);
    await Promise.race([current, delay(SILENCE_MS, undefined, { signal: stop }).catch(() => undefined)]);
    if (stop.aborted) break;
  }
  await Promise.all(attempts);
  signal.throwIfAborted();
  const [answer] = answers;
  if (answer === undefined) throw failure;
  return answer;
}

async function ask(server: string, name: string, signal: AbortSignal): Promise<DecodedPacket> {
  const query: Packet = {
    type: "query",
    id: randomInt(65_536),
    flags: RECURSION_DESIRED,
    questions: [{ type: "A", class: "IN", name }],
  };
  const limit = AbortSignal.any([signal, AbortSignal.timeout(TRY_TIMEOUT_MS)]);
  const answer = await askOverUdp(server, query, limit);
  return answer.flag_tc ? askOverTcp(server, query, limit) : answer;
}

/** A socket of its own for each query, so that an attacker who forges an answer must guess its random port too. */
async function askOverUdp(server: string, query: Packet, signal: AbortSignal): Promise<DecodedPacket> {
  const socket = createSocket("udp4");
  try {
    socket.connect(DNS_PORT, server);
    await once(socket, "connect", { signal });
    const { promise, resolve, reject } = Promise.withResolvers<DecodedPacket>();
    socket.on("error", reject);
    socket.on("message", (message) => {
      const answer = decodeAnswer(message, query);
      if (answer !== null) resolve(answer);
    });
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
    socket.send(encode(query));
    return await promise;
  } finally {
    socket.close();
  }
}

async function askOverTcp(server: string, query: Packet, signal: AbortSignal): Promise<DecodedPacket> {
  const socket = connect({ host: server, port: DNS_PORT, signal });
  try {
    const { promise, resolve, reject } = Promise.withResolvers<DecodedPacket>();
    let received = Buffer.alloc(0);
    socket.on("error", reject);
    socket.on("close", () => reject(new Error("The name server closed the connection")));
    socket.on("data", (chunk) => {
      received = Buffer.concat([received, chunk]);
      if (received.length < 2 || received.length < 2 + received.readUInt16BE(0)) return;
      const answer = decodeAnswer(received.subarray(2), query);
      if (answer === null) reject(new Error("The name server's answer is none to this question"));
      else resolve(answer);
    });
    socket.write(streamEncode(query));
    return await promise;
  } finally {
    socket.destroy();
  }
}

/** The packet if it answers the query, else null. */
function decodeAnswer(message: Buffer, query: Packet): DecodedPacket | null {
  try {
    const answer = decode(message);
    const [question] = answer.questions ?? [];
    const [asked] = query.questions ?? [];
    const isAnswer = answer.type === "response" && answer.id === query.id && question?.type === "A";
    if (!isAnswer || asked === undefined || question === undefined) return null;
    return normalizeName(question.name) === normalizeName(asked.name) ? answer : null;
  } catch {
    // What cannot be read answers nothing; the right answer may still come.
    return null;
  }
}

function readResolution(packet: DecodedPacket, name: string): Resolution {
  const { rcode } = packet as DecodedPacket & { readonly rcode: string };
  if (rcode !== "NOERROR" && rcode !== "NXDOMAIN") throw new Error(`The name server answers ${rcode}`);
  const records = packet.answers ?? [];
  const aliases: { name: string; target: string; ttl: number }[] = [];
  let owner = normalizeName(name);
  while (aliases.length < CNAME_CHAIN_MAX) {
    const alias = records.find((record) => record.type === "CNAME" && normalizeName(record.name) === owner);
    if (alias?.type !== "CNAME") break;
    aliases.push({ name: alias.name, target: alias.data, ttl: ttlOf(alias) });
    owner = normalizeName(alias.data);
  }
  const addresses = records.flatMap((record) =>
    record.type === "A" && normalizeName(record.name) === owner
      ? [{ name: record.name, address: record.data, ttl: ttlOf(record) }]
      : [],
  );
  return { rcode, aliases, addresses };
}

function ttlOf(record: Answer): number {
  const ttl = "ttl" in record ? (record.ttl ?? 0) : 0;
  // A TTL with the highest bit set counts as zero (RFC 2181, section 8).
  return ttl > 0x7fff_ffff ? 0 : ttl;
}
