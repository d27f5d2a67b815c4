import type { WireCreatedPreview, WirePreview } from "@caisson/protocol";
import { type HttpClient, path, type RequestOptions, requireRecord } from "../core/http.ts";
import { type Duration, parseDurationMs } from "../core/limits.ts";
import { requireArray } from "../core/page.ts";
import { parseSandboxId } from "../sandbox/id.ts";

/** A name under which a server inside a sandbox is reached. It ends with the sandbox. */
export interface Preview {
  /** The host, with the port where that is not 443. */
  domain: string;
  /** The address. */
  url: string;
  /** The port that it leads to, or `null`. */
  port: number | null;
  /** The process whose HTTP server it leads to, or `null`. */
  pid: number | null;
  /** Whether it needs its token or a signed link. */
  isPrivate: boolean;
  /** Whether the server inside sees `localhost` as its host. */
  isHostRewritten: boolean;
  /** When it was created. */
  createdAt: Date;
}

/** A preview that was created just now. */
export interface CreatedPreview extends Preview {
  /** Of a private one: what to send in the header `X-Caisson-Preview-Token`. The server keeps no copy of it. */
  token: string | null;
}

/** What to expose: a port, or the HTTP server of a process, wherever it listens. */
export type PreviewInit = (
  | {
      /** The port that the server listens on, 1 to 65535. */
      port: number;
    }
  | {
      /** The process, as the sandbox numbers it. */
      pid: number;
    }
) & {
  /** Let in only who has the token or a signed link. Default: everybody who knows the address. */
  isPrivate?: boolean;
  /** Show the server inside `localhost:port` as its host, which development servers may insist on. Default: false. */
  isHostRewritten?: boolean;
};

/** A link that opens a private preview in a browser. */
export interface PreviewLink {
  /** The address to open. */
  url: string;
  /** Until when it works, and the browser that has followed it may go on. */
  expiresAt: Date;
}

/** Where a signed link leads, and for how long. */
export interface PreviewLinkOptions extends RequestOptions {
  /** How long it works. Default: an hour; at most a week. */
  expiresIn?: Duration;
  /** A path on the preview. Default: `/`. */
  path?: string;
}

/** Addresses of servers inside sandboxes. */
export class Previews {
  readonly #http: HttpClient;

  /** @internal */
  constructor(http: HttpClient) {
    this.#http = http;
  }

  /** Exposes a server inside a sandbox. */
  async create(sandboxId: string, init: PreviewInit, options?: RequestOptions): Promise<CreatedPreview> {
    const target = "port" in init ? { port: init.port } : { pid: init.pid };
    const body = { ...target, private: init.isPrivate, rewrite_host: init.isHostRewritten };
    const response = await this.#send("POST", sandboxId, path``, body, options);
    const record = requireRecord(response) as unknown as WireCreatedPreview;
    return { ...toPreview(record), token: record.token };
  }

  /** Lists the previews of a sandbox. */
  async list(sandboxId: string, options?: RequestOptions): Promise<Preview[]> {
    return requireArray(await this.#send("GET", sandboxId, path``, undefined, options)).map((record) =>
      toPreview(requireRecord(record) as unknown as WirePreview),
    );
  }

  /** Ends a preview, and every connection through it. Throws {@linkcode NotFoundError} when the sandbox has no such preview. */
  async revoke(sandboxId: string, domain: string, options?: RequestOptions): Promise<void> {
    await this.#send("DELETE", sandboxId, path`/${domain}`, undefined, options);
  }

  /** Signs a link that opens a private preview in a browser until it expires. */
  async link(
    sandboxId: string,
    domain: string,
    { expiresIn, path: target, ...options }: PreviewLinkOptions = {},
  ): Promise<PreviewLink> {
    const seconds = expiresIn === undefined ? undefined : parseDurationMs(expiresIn) / 1000;
    const body = { expires_in_seconds: seconds, path: target };
    const { url, expires_at } = requireRecord(
      await this.#send("POST", sandboxId, path`/${domain}/link`, body, options),
    );
    return { url: String(url), expiresAt: new Date(String(expires_at)) };
  }

  async #send(
    method: "GET" | "POST" | "DELETE",
    sandboxId: string,
    rest: string,
    body: unknown,
    options?: RequestOptions,
  ): Promise<unknown> {
    const origin = this.#http.configuration.sandboxEndpoint(parseSandboxId(sandboxId).region);
    const fullPath = `${path`/api/v3/sandbox/${sandboxId}/expose/http`}${rest}`;
    return (await this.#http.send({ method, origin, path: fullPath, body, options })).body;
  }
}

function toPreview({ domain, url, port, pid, private: isPrivate, rewrite_host, created_at }: WirePreview): Preview {
  return { domain, url, port, pid, isPrivate, isHostRewritten: rewrite_host, createdAt: new Date(created_at) };
}
