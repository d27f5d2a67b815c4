import type { ErrorObject } from "@caisson/protocol/rpc";
import { AppError, RemoteError, sharedClass } from "../calls/errors.ts";
import { startTimer } from "../host/timers.ts";
import { closeQuietly } from "../network/close-quietly.ts";
import type { SandboxProcess } from "../processes/process-table.ts";
import type { PrivateSocket } from "./private-socket.ts";
import type { ReplRequest, ReplResponse, ThrownValue } from "./repl-driver.ts";
import { rewriteImports } from "./repl-source.ts";

/** How long a REPL may take to end when it is closed, before it is killed. */
const CLOSE_GRACE_MS = 500;
const CHUNK_BYTES = 256 * 1024;

interface Waiter {
  resolve(value: unknown): void;
  reject(error: unknown): void;
}

/** A process that evaluates TypeScript, input after input, with the bindings of earlier ones in scope (protocol.md 4.5). */
export class Repl {
  readonly #process: SandboxProcess;
  readonly #kill: () => void;
  readonly #baseUrl: string;
  readonly #connected: Promise<Deno.UnixConn>;
  readonly #waiters = new Map<number, Waiter>();
  #lastId = 0;
  /** Ends when everything before it is on its way, so that inputs arrive in the order of their calls. */
  #sent: Promise<unknown> = Promise.resolve();

  constructor(process: SandboxProcess, kill: () => void, socket: PrivateSocket, baseUrl: string) {
    this.#process = process;
    this.#kill = kill;
    this.#baseUrl = baseUrl;
    this.#connected = this.#connect(socket);
    // A process that never connects shows in the calls; this only keeps the rejection from being nobody's.
    this.#connected.catch(() => undefined);
  }

  /** The value of the last expression, as JSON. Throws what the code throws. */
  evaluate(code: string): Promise<unknown> {
    return this.#run(code, null);
  }

  /** Calls a binding or a function expression with arguments that are JSON. */
  call(fn: string, args: readonly unknown[]): Promise<unknown> {
    return this.#run(`(${fn.replace(/[;\s]+$/, "")}\n)`, JSON.stringify(args));
  }

  /** Ends the process, also one that is busy, and waits for that. */
  async close(): Promise<void> {
    const cancel = startTimer(CLOSE_GRACE_MS, this.#kill);
    // The program ends itself when its input does. Where that cannot be said any more, it is ending already, or is killed.
    void this.#connected.then((connection) => connection.closeWrite()).catch(() => undefined);
    await this.#process.exited;
    cancel();
  }

  async #run(code: string, args: string | null): Promise<unknown> {
    const id = ++this.#lastId;
    const answer = new Promise((resolve, reject) => this.#waiters.set(id, { resolve, reject }));
    const sending = this.#sent.then(async () =>
      this.#send({ id, code: await rewriteImports(code, this.#baseUrl), args }),
    );
    this.#sent = sending.catch(() => undefined);
    try {
      const [value] = await Promise.all([answer, sending]);
      return value;
    } finally {
      this.#waiters.delete(id);
    }
  }

  async #send(request: ReplRequest): Promise<void> {
    const bytes = new TextEncoder().encode(`${JSON.stringify(request)}\n`);
    try {
      const connection = await this.#connected;
      for (let sent = 0; sent < bytes.length; )
        sent += await connection.write(bytes.subarray(sent, sent + CHUNK_BYTES));
    } catch (cause) {
      if (cause instanceof AppError) throw cause;
      throw this.#ended();
    }
  }

  async #connect(socket: PrivateSocket): Promise<Deno.UnixConn> {
    try {
      const connection = await Promise.race([socket.listener.accept(), this.#process.exited.then(() => null)]);
      if (connection === null) throw this.#ended();
      void this.#receive(connection);
      return connection;
    } finally {
      await socket.close();
    }
  }

  async #receive(connection: Deno.UnixConn): Promise<void> {
    try {
      for await (const line of readLines(connection)) this.#settle(JSON.parse(line));
    } catch (error) {
      // A connection that breaks means that the process has ended, which the waiters are told below; a line that is not an answer means
      // that the code wrote to the socket itself.
      if (error instanceof SyntaxError) this.#kill();
    }
    closeQuietly(connection);
    for (const { reject } of this.#waiters.values()) reject(this.#ended());
  }

  #settle(response: ReplResponse): void {
    const waiter = this.#waiters.get(response.id);
    if ("thrown" in response) waiter?.reject(new RemoteError(toErrorObject(response.thrown)));
    else waiter?.resolve(JSON.parse(response.json));
  }

  #ended(): AppError {
    return endedReplError(this.#process.pid);
  }
}

function toErrorObject({ classes, cause, errors, ...rest }: ThrownValue): ErrorObject {
  return {
    ...rest,
    constructorName: sharedClass(classes),
    cause: cause === null ? null : toErrorObject(cause),
    errors: errors === null ? null : errors.map(toErrorObject),
  };
}

export function endedReplError(pid: number): AppError {
  return new AppError("Error", `Cannot evaluate code: the REPL process ${pid} has ended`, "ENOENT");
}

async function* readLines(connection: Deno.UnixConn): AsyncGenerator<string> {
  const buffer = new Uint8Array(CHUNK_BYTES);
  const decoder = new TextDecoder();
  const parts: string[] = [];
  for (let count = await connection.read(buffer); count !== null; count = await connection.read(buffer)) {
    const [first = "", ...others] = decoder.decode(buffer.subarray(0, count), { stream: true }).split("\n");
    parts.push(first);
    for (const other of others) {
      yield parts.splice(0).join("");
      parts.push(other);
    }
  }
}
