import { type HttpClient, path, type RequestOptions, requireRecord } from "../core/http.ts";
import { reserveExposure } from "../sandbox/control.ts";
import { parseSandboxId } from "../sandbox/id.ts";
import { type SshAccess, toSshAccess } from "../sandbox/ssh-access.ts";

/** Where SSH clients connect. */
export interface SshEndpoint {
  /** The host. */
  hostname: string;
  /** The port. */
  port: number;
  /** Type and key of the server, as a line of `known_hosts` has them. */
  hostKey: string;
  /** As `ssh-keygen -l` shows it. */
  fingerprint: string;
}

/** SSH user names of sandboxes, and what clients need to know of the server. */
export class Ssh {
  readonly #http: HttpClient;

  /** @internal */
  constructor(http: HttpClient) {
    this.#http = http;
  }

  /** Where SSH clients connect, and by which key they know the server. Throws {@linkcode NotSupportedError} where SSH is switched off. */
  async endpoint(options?: RequestOptions): Promise<SshEndpoint> {
    const response = await this.#http.send({ method: "GET", path: "/api/v1/ssh", options });
    const { hostname, port, host_key, fingerprint } = requireRecord(response.body);
    return {
      hostname: String(hostname),
      port: Number(port),
      hostKey: String(host_key),
      fingerprint: String(fingerprint),
    };
  }

  /** Makes a user name that lets in whoever knows it, as `sandbox.exposeSsh()` does. */
  async create(sandboxId: string, options?: RequestOptions): Promise<SshAccess> {
    return toSshAccess(await reserveExposure(this.#http, this.#origin(sandboxId), sandboxId, "ssh", options));
  }

  /** Ends a user name of a sandbox and the connections by it. Without one: all user names of the sandbox. */
  async revoke(sandboxId: string, username?: string, options?: RequestOptions): Promise<void> {
    const body = username === undefined ? undefined : { username };
    const fullPath = path`/api/v3/sandbox/${sandboxId}/expose/ssh`;
    await this.#http.send({ method: "DELETE", origin: this.#origin(sandboxId), path: fullPath, body, options });
  }

  #origin(sandboxId: string): string {
    return this.#http.configuration.sandboxEndpoint(parseSandboxId(sandboxId).region);
  }
}
