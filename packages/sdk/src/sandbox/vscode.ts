import type { RpcResult } from "@caisson/protocol";
import type { Bytes } from "../internal/bytes.ts";
import type { CallOptions, Connection } from "../internal/connection.ts";
import { orAbort } from "../internal/or-abort.ts";
import { untilClosed } from "../internal/until-closed.ts";
import { type ChildProcessStatus, type Signal, toStatus } from "../process/child-process.ts";
import { abandon } from "../process/spawn.ts";

/** Options of an editor in the sandbox. */
export interface VsCodeOptions extends CallOptions {
  /** Environment variables of the editor. */
  env?: Record<string, string>;
  /** Extensions to install: ids, or paths of `.vsix` files in the sandbox. */
  extensions?: string[];
  /** The address of a page to show beside the editor. Servers of Caisson refuse it with `NotSupported`. */
  preview?: string;
  /** Hide the button that stops the editor, which editors of Caisson's servers do not have. Default: false. */
  disableStopButton?: boolean;
  /** Settings of the machine, in place of those that there are. */
  editorSettings?: Record<string, unknown>;
}

/** An editor that runs in the sandbox, until it ends, is killed, or the sandbox ends. */
export class VsCode implements AsyncDisposable {
  /** The public address. **Everybody who knows it can use the editor.** */
  readonly url: string;
  /** What the editor writes to standard output. */
  readonly stdout: ReadableStream<Bytes>;
  /** What the editor writes to standard error. */
  readonly stderr: ReadableStream<Bytes>;
  /** Resolves when the editor has ended. */
  readonly status: Promise<ChildProcessStatus>;
  readonly #connection: Connection;
  readonly #pid: number;

  /** @internal */
  constructor(connection: Connection, url: string, { pid, stdoutStreamId, stderrStreamId }: RpcResult<"vscode">) {
    this.#connection = connection;
    this.url = url;
    this.#pid = pid;
    this.stdout = connection.receive(stdoutStreamId).readable;
    this.stderr = connection.receive(stderrStreamId).readable;
    this.status = connection.call("processWait", { pid, vscode: true }).then(toStatus);
    this.status.catch(() => undefined);
  }

  /** Sends a signal, `SIGTERM` by default. Does not wait for the end; await {@linkcode status} for that. */
  async kill(signal: Signal = "SIGTERM"): Promise<void> {
    try {
      await this.#connection.call("processKill", { pid: this.#pid, signal, vscode: true });
    } catch (error) {
      if (!(error instanceof Error && "code" in error && error.code === "ENOENT")) throw error;
    }
  }

  /** Ends the editor and waits until it has ended. */
  async [Symbol.asyncDispose](): Promise<void> {
    await untilClosed(async () => {
      await this.kill();
      await this.status;
    });
  }
}

/** Starts the editor and publishes it (protocol.md 4.7). It acts for the user, so it is given the token. */
export async function startVsCode(
  connection: Connection,
  path: string,
  token: string,
  options: VsCodeOptions,
  publish: (port: number) => Promise<string>,
): Promise<VsCode> {
  const { env = {}, extensions = [], preview, disableStopButton, editorSettings, signal } = options;
  const params = {
    path,
    extensions,
    env: { ...env, DENO_DEPLOY_SANDBOX_TOKEN: token },
    preview,
    disableStopButton,
    editorSettings,
  };
  // Where nobody has the editor it is ended; a connection that has gone cannot do that, and the sandbox's end will.
  const end = (unwanted: RpcResult<"vscode">) => abandon(connection, unwanted, { vscode: true });
  signal?.throwIfAborted();
  const editor = await orAbort(connection.call("vscode", params), signal, (late) => void end(late));
  try {
    return new VsCode(connection, await publish(editor.port), editor);
  } catch (error) {
    await end(editor);
    throw error;
  }
}
