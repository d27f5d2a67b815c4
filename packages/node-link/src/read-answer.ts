import { type ClientHttp2Stream, constants } from "node:http2";
import { parseCleaned } from "./answers.ts";
import { keptBytes } from "./limits.ts";

const { NGHTTP2_CANCEL } = constants;

/** What a node has answered: `lost` when it was cut off, `wrong` when it is longer than allowed or no JSON object. */
export type Answer =
  | { readonly kind: "value"; readonly value: unknown }
  | { readonly kind: "error"; readonly error: unknown }
  | { readonly kind: "lost" }
  | { readonly kind: "wrong" };

/** What comes of a stream, once it is over. It never rejects. */
export async function readAnswer(stream: ClientHttp2Stream, maxBytes: number): Promise<Answer> {
  let chunks: Buffer[] = [];
  let size = 0;
  stream.on("data", (chunk: Buffer) => {
    size += keptBytes(chunk);
    if (size <= maxBytes) {
      chunks.push(chunk);
      return;
    }
    chunks = [];
    stream.close(NGHTTP2_CANCEL);
  });
  const { promise, resolve } = Promise.withResolvers<boolean>();
  stream.once("end", () => resolve(true));
  stream.once("close", () => resolve(false));
  const isWhole = await promise;
  if (size > maxBytes) return { kind: "wrong" };
  if (!isWhole) return { kind: "lost" };
  // A node that ends a call without a word has left it.
  if (size === 0) return { kind: "lost" };
  try {
    const answer = parseCleaned(Buffer.concat(chunks));
    if (typeof answer !== "object" || answer === null) return { kind: "wrong" };
    const { value, error } = answer as { readonly value?: unknown; readonly error?: unknown };
    return error === undefined ? { kind: "value", value } : { kind: "error", error };
  } catch {
    return { kind: "wrong" };
  }
}
