import { type FSWatcher, watch } from "node:fs";
import { type FileHandle, lstat, open } from "node:fs/promises";
import { request } from "node:http";
import { connect } from "node:net";
import { join } from "node:path";
import { hasErrorCode } from "@caisson/linux";
import { AGENT_SOCKET_NAME } from "./environment.ts";

const O_PATH = 0o10000000;
const O_NOFOLLOW = 0o400000;
const RETRY_MS = 1;
/** A living agent answers within a few milliseconds; one that is stopped never does, and has not ended either. */
const SILENCE_MS = 1_000;
/** How long the agent may take to say good-bye to its clients. */
const STOP_MS = 150;

/**
 * The agent's socket, held by descriptor. The sandbox owns the directory and could put another socket, or a link to one of the host's, in
 * its place at any time; the descriptor, opened before any of the user's code can run, stays with the first.
 */
export class AgentSocket implements AsyncDisposable {
  readonly #file: FileHandle;

  constructor(file: FileHandle) {
    this.#file = file;
  }

  /** A path that leads to the socket in this process only, and nowhere once it is disposed of. */
  get path(): string {
    return `/proc/self/fd/${this.#file.fd}`;
  }

  /**
   * Whether the agent lives: it answers, or its connection stays open. A connection alone says little, because the kernel goes on taking them
   * for a process that is ending until it has closed the last of its sockets.
   */
  async isAlive(): Promise<boolean> {
    return await new Promise((resolve) => {
      const outgoing = request({ socketPath: this.path, path: "/health", agent: false });
      const live = (): void => {
        resolve(true);
        outgoing.destroy();
      };
      // In all, not between two bytes: an agent must not be able to draw its answer out.
      const timer = setTimeout(live, SILENCE_MS);
      outgoing.on("response", live);
      outgoing.on("error", () => resolve(false));
      outgoing.on("close", () => {
        clearTimeout(timer);
        resolve(false);
      });
      outgoing.end();
    });
  }

  /**
   * Has the agent end the programs, which may take `graceMs` for that, and then close its WebSockets. Waits at most `STOP_MS` longer; an agent that
   * fails or is gone has nothing left to close.
   */
  async stop(graceMs: number): Promise<void> {
    const timeoutMs = graceMs + STOP_MS;
    await new Promise<void>((resolve) => {
      const outgoing = request({
        socketPath: this.path,
        path: `/stop?grace=${graceMs}`,
        method: "POST",
        timeout: timeoutMs,
        agent: false,
      });
      const timer = setTimeout(() => outgoing.destroy(), timeoutMs);
      outgoing.on("response", (response) => response.resume());
      outgoing.on("error", () => undefined);
      outgoing.on("close", () => {
        clearTimeout(timer);
        resolve();
      });
      outgoing.end();
    });
  }

  /**
   * Gives an agent that was started ahead what it would have been started with, which it takes once. It is spoken to from now on, but learns nothing before
   * `send`. Disposing of it breaks off what is under way.
   */
  openConfiguration(directory: string, variables: readonly string[], signal: AbortSignal): AgentConfiguration {
    const body = JSON.stringify({ directory, variables });
    const outgoing = request({
      socketPath: this.path,
      path: "/configure",
      method: "POST",
      headers: { "Content-Length": Buffer.byteLength(body) },
      agent: false,
      signal,
    });
    const { promise: taken, resolve, reject } = Promise.withResolvers<void>();
    // It may fail before anybody waits for it.
    taken.catch(() => undefined);
    outgoing.on("error", reject);
    outgoing.on("response", (response) => {
      response.resume();
      response.on("error", reject);
      response.on("end", () => {
        if (response.statusCode === 200) resolve();
        else reject(new Error(`The agent answered its configuration with ${response.statusCode}`));
      });
    });
    outgoing.flushHeaders();
    return {
      async send() {
        outgoing.end(body);
        await taken;
      },
      [Symbol.dispose]: () => outgoing.destroy(),
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#file.close();
  }
}

/** A configuration on its way to an agent. */
export interface AgentConfiguration extends Disposable {
  /** Resolves when the agent has taken it; rejects when it does not. */
  send(): Promise<void>;
}

/** Waits until the agent listens on the socket in `directory`. The caller bounds the wait with the signal. */
export async function waitForAgent(directory: string, signal: AbortSignal): Promise<AgentSocket> {
  const path = join(directory, AGENT_SOCKET_NAME);
  await waitForEntry(directory, path, signal);
  const file = await open(path, O_PATH | O_NOFOLLOW);
  const socket = new AgentSocket(file);
  try {
    if (!(await file.stat()).isSocket()) throw new Error(`${AGENT_SOCKET_NAME} is not a socket`);
    // The name exists as soon as the socket is bound, which is an instant before it listens.
    while (!(await accepts(socket.path))) {
      signal.throwIfAborted();
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
    return socket;
  } catch (error) {
    await socket[Symbol.asyncDispose]();
    throw error;
  }
}

async function waitForEntry(directory: string, path: string, signal: AbortSignal): Promise<void> {
  signal.throwIfAborted();
  const watcher = tryWatch(directory);
  let timer: NodeJS.Timeout | undefined;
  try {
    await new Promise<void>((resolve, reject) => {
      const check = (): void => {
        lstat(path).then(
          () => resolve(),
          (error: unknown) => {
            if (!hasErrorCode(error, "ENOENT")) reject(error);
          },
        );
      };
      watcher?.on("change", check);
      watcher?.on("error", reject);
      if (watcher === null) timer = setInterval(check, RETRY_MS);
      signal.addEventListener("abort", () => reject(signal.reason), { once: true });
      // The socket may have come before the watch.
      check();
    });
  } finally {
    clearInterval(timer);
    watcher?.close();
  }
}

/** Null where the host has no more watches for this user, whose other programs share them: 128 unless somebody raised it. */
function tryWatch(directory: string): FSWatcher | null {
  try {
    return watch(directory);
  } catch (error) {
    if (hasErrorCode(error, "EMFILE", "ENOSPC")) return null;
    throw error;
  }
}

async function accepts(path: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const socket = connect(path);
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", (error) => {
      if (hasErrorCode(error, "ECONNREFUSED")) resolve(false);
      else reject(error);
    });
  });
}
