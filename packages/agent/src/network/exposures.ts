import { AppError } from "../calls/errors.ts";
import { startTimer } from "../host/timers.ts";

const ANSWER_TIMEOUT_MS = 10_000;
/** The server's answers are short; a line that is not is nobody's who knows how to answer. */
const MAX_LINE_CHARACTERS = 4_096;
const HEAD = "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\n\r\n";

/** What a name is bound to: a port, or the HTTP server of the process with this pid. */
export type ExposureTarget = { readonly port: number } | { readonly pid: number };

interface Answer {
  readonly id: number;
  readonly error: string | null;
}

/**
 * Tells the server what a reserved name is bound to (protocol.md 4.7). The server opens one connection for that when the first name is reserved, and
 * answers on it, one line of JSON each. It checks everything itself: what is said here can only be about this sandbox.
 */
export class Exposures {
  #link: Deno.Conn | null = null;
  #lastId = 0;
  readonly #waiting = new Map<number, (error: string | null) => void>();

  /** Serves the server's connection until it ends. A newer one takes its place. */
  async serve(link: Deno.Conn): Promise<void> {
    await writeText(link, HEAD);
    this.#link = link;
    try {
      for await (const line of lines(link)) this.#receive(line);
    } finally {
      if (this.#link === link) this.#endLink();
    }
  }

  /** Resolves when requests to the name reach the target. */
  async bind(domain: string, target: ExposureTarget): Promise<void> {
    const link = this.#link;
    if (link === null) throw unknownDomain(domain);
    this.#lastId += 1;
    const id = this.#lastId;
    const { promise, resolve } = Promise.withResolvers<string | null>();
    this.#waiting.set(id, resolve);
    const stopTimer = startTimer(ANSWER_TIMEOUT_MS, () => resolve("the server does not answer"));
    try {
      await writeText(link, `${JSON.stringify({ id, domain, ...target })}\n`);
      const error = await promise;
      if (error !== null) throw new AppError("NotFound", `Cannot expose ${domain}: ${error}`);
    } finally {
      stopTimer();
      this.#waiting.delete(id);
    }
  }

  #receive(line: string): void {
    const { id, error } = JSON.parse(line) as Answer;
    this.#waiting.get(id)?.(error);
  }

  #endLink(): void {
    this.#link = null;
    for (const resolve of this.#waiting.values()) resolve("the server has closed the connection");
  }
}

function unknownDomain(domain: string): AppError {
  return new AppError(
    "NotFound",
    `Cannot expose ${domain}: reserve a name with POST …/expose/http first, and give that`,
  );
}

async function* lines(link: Deno.Conn): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  const buffer = new Uint8Array(MAX_LINE_CHARACTERS);
  let text = "";
  for (let count = await link.read(buffer); count !== null; count = await link.read(buffer)) {
    text += decoder.decode(buffer.subarray(0, count), { stream: true });
    const parts = text.split("\n");
    text = parts.pop() ?? "";
    if (text.length > MAX_LINE_CHARACTERS) return;
    yield* parts;
  }
}

async function writeText(link: Deno.Conn, text: string): Promise<void> {
  let bytes = new TextEncoder().encode(text);
  while (bytes.length > 0) bytes = bytes.subarray(await link.write(bytes));
}
