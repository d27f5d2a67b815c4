import type { LiveSandbox } from "../sandboxes/live-sandboxes.ts";
import type { PreviewKey } from "./preview-key.ts";

/** What a preview leads to: a port, or the HTTP server of the process with this pid, wherever that listens. */
export type PreviewTarget = { readonly port: number } | { readonly pid: number };

/** A name under which a server inside one sandbox is reached. It lives in memory, and no longer than its sandbox. */
export interface Preview {
  /** Random, 131 bits: the first label of its host name. */
  readonly label: string;
  readonly sandbox: LiveSandbox;
  /** Null until the client has bound it (protocol.md 2.5). */
  target: PreviewTarget | null;
  /** Null: everybody who knows the address may use it. */
  readonly key: PreviewKey | null;
  /** Whether the server inside sees `localhost` in place of the preview's own host name. */
  readonly isHostRewritten: boolean;
  readonly createdAtMs: number;
}
