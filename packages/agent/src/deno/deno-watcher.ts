import { NOTIFICATIONS } from "@caisson/protocol/rpc";
import type { Connection } from "../calls/method.ts";
import type { DenoProgram } from "./deno-program.ts";
import { PrivateSocket } from "./private-socket.ts";

/** Watches the files of a Deno program and tells a connection of each restart (protocol.md 3.7). */
export class DenoWatcher {
  /** Unique across sandboxes, since clients keep one table for all of them. */
  readonly id = crypto.randomUUID();
  readonly #socket: PrivateSocket;
  readonly #paths: readonly string[];

  private constructor(socket: PrivateSocket, paths: readonly string[]) {
    this.#socket = socket;
    this.#paths = paths;
  }

  /** Watches these paths beside the modules of the program. */
  static async open(paths: readonly string[]): Promise<DenoWatcher> {
    return new DenoWatcher(await PrivateSocket.open(), paths);
  }

  /**
   * The program with the options that make it watch. Deno restarts it inside one process and tells nobody, so a module that runs before the
   * program's own knocks at the agent's socket at every start.
   */
  watching({ args: [command = "run", ...args], dispose }: DenoProgram): DenoProgram {
    const path = JSON.stringify(this.#socket.path);
    const knock = `await Deno.connect({ transport: "unix", path: ${path} }).then((socket) => socket.close(), () => {});`;
    // A comma in a path is written twice.
    const watch = ["--watch", this.#paths.map((path) => path.replaceAll(",", ",,")).join(",")].filter(
      (part) => part !== "",
    );
    const options = [
      watch.join("="),
      "--no-clear-screen",
      `--preload=data:text/javascript,${encodeURIComponent(knock)}`,
    ];
    return {
      args: [command, ...options, ...args],
      dispose: async () => {
        await this.#socket.close();
        await dispose();
      },
    };
  }

  /** Notifies of every start but the first. Ends when the program is disposed of. */
  async report(connection: Connection): Promise<void> {
    let isRestart = false;
    for await (const knock of this.#socket.listener) {
      knock.close();
      if (isRestart) connection.notify(NOTIFICATIONS.watcherRestart, { watcherId: this.id });
      isRestart = true;
    }
  }
}
