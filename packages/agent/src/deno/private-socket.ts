import { removeIfPresent } from "./remove-if-present.ts";

/**
 * A Unix socket in a directory that only this user may enter, over which a process that the agent starts talks to it. Closing removes the
 * directory; it happens once, however often it is asked for.
 */
export class PrivateSocket {
  readonly path: string;
  readonly listener: Deno.UnixListener;
  readonly #directory: string;
  #isClosed = false;

  private constructor(directory: string) {
    this.#directory = directory;
    this.path = `${directory}/socket`;
    this.listener = Deno.listen({ transport: "unix", path: this.path });
  }

  static async open(): Promise<PrivateSocket> {
    const directory = await Deno.makeTempDir({ dir: "/tmp", prefix: "caisson-" });
    try {
      return new PrivateSocket(directory);
    } catch (error) {
      await removeIfPresent(directory);
      throw error;
    }
  }

  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.listener.close();
    await removeIfPresent(this.#directory);
  }
}
