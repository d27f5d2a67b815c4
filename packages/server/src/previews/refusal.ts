/** Why a request does not reach a sandbox. */
export type Refusal =
  | "bad-host"
  | "misdirected"
  | "not-found"
  | "private"
  | "bad-method"
  | "too-many-requests"
  | "too-many-connections"
  | "not-bound"
  | "not-listening"
  | "unreachable"
  | "bad-answer";

interface RefusalText {
  readonly status: number;
  readonly text: string;
}

/** Plain text: a page must not run as the sandbox's own. */
const REFUSALS: Readonly<Record<Refusal, RefusalText>> = {
  "bad-host": { status: 400, text: "The request must have exactly one Host." },
  misdirected: { status: 421, text: "The connection was opened for another name: open a new one." },
  "not-found": { status: 404, text: "There is no such preview. It ends when it is revoked, and with its sandbox." },
  private: {
    status: 401,
    text: 'This preview is private: send its token in the header X-Caisson-Preview-Token, or open a link made with "caisson previews link".',
  },
  "bad-method": { status: 405, text: "A preview is no proxy: CONNECT is not offered." },
  "too-many-requests": { status: 429, text: "Too many requests to this sandbox: try again in a second." },
  "too-many-connections": { status: 503, text: "Too many connections to this sandbox at a time: try again later." },
  "not-bound": { status: 502, text: "No port is bound to this preview yet." },
  "not-listening": { status: 502, text: "Nothing in the sandbox listens on the port of this preview yet." },
  unreachable: { status: 503, text: "The machine that this sandbox runs on cannot be reached now: try again later." },
  "bad-answer": { status: 502, text: "The server in the sandbox broke off, or its answer is not valid HTTP." },
};

/** Status, headers and body of the answer. */
export function refusalAnswer(refusal: Refusal): {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
} {
  const { status, text } = REFUSALS[refusal];
  const body = `${text}\n`;
  return {
    status,
    headers: {
      "content-type": "text/plain; charset=utf-8",
      "content-length": String(Buffer.byteLength(body)),
      "cache-control": "no-store",
      "x-content-type-options": "nosniff",
      ...(status === 429 || status === 503 ? { "retry-after": "1" } : {}),
    },
    body,
  };
}
