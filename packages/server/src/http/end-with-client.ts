import type { FastifyReply } from "fastify";

/** Is aborted, with this reason, when the client leaves before it has its answer. */
export function endWithClient(reply: Pick<FastifyReply, "raw">, reason: string): AbortSignal {
  const left = new AbortController();
  reply.raw.once("close", () => left.abort(new Error(reason)));
  return left.signal;
}
