import type { Duplex } from "node:stream";
import { CaissonError } from "@caisson/model";
import { Type } from "typebox";
import { Value } from "typebox/value";
import { Allowance } from "./allowance.ts";
import type { PreviewTarget } from "./preview.ts";

const OPEN_TIMEOUT_MS = 5_000;
const LINE_CHARACTERS_MAX = 4_096;
/** More than any client binds names, which are 64 at most. */
const LINES_PER_SECOND = 20;
const HEAD_END = "\r\n\r\n";

const port = Type.Integer({ minimum: 1, maximum: 65_535 });
const pid = Type.Integer({ minimum: 1 });
const BindingSchema = Type.Object({
  id: Type.Integer(),
  domain: Type.String(),
  port: Type.Optional(port),
  pid: Type.Optional(pid),
});

/** Binds a name; returns why it does not, for the sandbox's client to read. */
type Bind = (domain: string, target: PreviewTarget) => string | null;

/**
 * How the agent says what names are bound to: on a connection that the server opens, one line of JSON each. The agent may be anybody's program by
 * now. What it says is about its own sandbox only, and a line that is none ends the connection.
 */
export class ExposureLink {
  readonly #openAgent: () => Duplex;
  readonly #bind: Bind;
  #socket: Promise<Duplex> | null = null;

  constructor(openAgent: () => Duplex, bind: Bind) {
    this.#openAgent = openAgent;
    this.#bind = bind;
  }

  /** Opens it unless it is open. */
  async open(): Promise<void> {
    this.#socket ??= this.#connect();
    try {
      await this.#socket;
    } catch (error) {
      this.#socket = null;
      throw new CaissonError("SANDBOX_START_FAILED", "The sandbox does not take connections", { cause: error });
    }
  }

  close(): void {
    void this.#socket?.then(
      (socket) => socket.destroy(),
      () => undefined,
    );
    this.#socket = null;
  }

  async #connect(): Promise<Duplex> {
    const socket = this.#openAgent();
    socket.on("error", () => undefined);
    socket.once("close", () => {
      this.#socket = null;
    });
    try {
      socket.setEncoding("latin1").write("GET /exposures HTTP/1.1\r\nHost: agent\r\n\r\n");
      const rest = await readHead(socket);
      this.#receive(socket, rest);
      return socket;
    } catch (error) {
      socket.destroy();
      throw error;
    }
  }

  /** A sandbox that says more lines than it may waits for the next ones to be read. */
  #receive(socket: Duplex, first: string): void {
    const allowance = new Allowance(LINES_PER_SECOND);
    let text = "";
    let timer: NodeJS.Timeout | undefined;
    const work = (): void => {
      for (let end = text.indexOf("\n"); end >= 0; end = text.indexOf("\n")) {
        if (!allowance.take()) {
          socket.pause();
          timer = setTimeout(work, 1000 / LINES_PER_SECOND);
          return;
        }
        const line = text.slice(0, end);
        text = text.slice(end + 1);
        if (!this.#answer(socket, line)) {
          socket.destroy();
          return;
        }
      }
      if (text.length > LINE_CHARACTERS_MAX) socket.destroy();
      else socket.resume();
    };
    const take = (chunk: string): void => {
      text += chunk;
      work();
    };
    socket.on("data", take).once("close", () => clearTimeout(timer));
    take(first);
  }

  /** False: that was none of the lines an agent of ours writes. */
  #answer(socket: Duplex, line: string): boolean {
    const binding = parse(line);
    if (!Value.Check(BindingSchema, binding)) return false;
    const { id, domain, port, pid } = binding;
    const target = port !== undefined ? { port } : pid !== undefined ? { pid } : null;
    if (target === null) return false;
    const error = this.#bind(domain, target);
    // Answers that nobody takes must not gather here.
    return socket.write(`${JSON.stringify({ id, error })}\n`) || socket.writableLength < LINE_CHARACTERS_MAX;
  }
}

function parse(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return null;
  }
}

/** Reads up to the end of the answer's head, and returns what came behind it, with the connection paused. */
async function readHead(socket: Duplex): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  let text = "";
  const take = (chunk: string): void => {
    text += chunk;
    const end = text.indexOf(HEAD_END);
    if (end < 0 && text.length < LINE_CHARACTERS_MAX) return;
    if (end < 0 || !text.startsWith("HTTP/1.1 200 "))
      reject(new Error(`It answered ${JSON.stringify(text.slice(0, 64))}`));
    resolve(text.slice(end + HEAD_END.length));
  };
  const fail = (): void => reject(new Error("It closed the connection"));
  const timer = setTimeout(() => reject(new Error("It does not answer")), OPEN_TIMEOUT_MS);
  socket.on("data", take).once("close", fail);
  try {
    return await promise;
  } finally {
    clearTimeout(timer);
    socket.off("data", take).off("close", fail).pause();
  }
}
