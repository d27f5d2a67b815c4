import type { SandboxEndpointOptions } from "../core/configuration.ts";
import type { HttpClient, RequestOptions } from "../core/http.ts";
import type { Duration } from "../core/limits.ts";
import { labelQuery, requireArray } from "../core/page.ts";
import { extendSandbox, killSandbox } from "../sandbox/control.ts";
import { parseSandboxId } from "../sandbox/id.ts";
import { getSandbox, type SandboxDetails, type SandboxMetadata, toSandboxMetadata } from "../sandbox/metadata.ts";
import type { ConnectOptions, SandboxOptions } from "../sandbox/options.ts";
import { Sandbox } from "../sandbox/sandbox.ts";

/** Which sandboxes to list. */
export interface SandboxesListOptions {
  /** Only those that have all these labels. */
  labels?: Record<string, string>;
}

/** The organization's sandboxes. */
export class Sandboxes {
  readonly #http: HttpClient;
  readonly #clientOptions: SandboxEndpointOptions;

  /** @internal */
  constructor(http: HttpClient, clientOptions: SandboxEndpointOptions) {
    this.#http = http;
    this.#clientOptions = clientOptions;
  }

  /** Creates a sandbox with this client's credentials. See {@linkcode Sandbox.create}. */
  create(options: SandboxOptions = {}): Promise<Sandbox> {
    return Sandbox.create({ ...this.#clientOptions, ...options });
  }

  /** Connects to a running sandbox with this client's credentials. See {@linkcode Sandbox.connect}. */
  connect(id: string, options: ConnectOptions = {}): Promise<Sandbox> {
    return Sandbox.connect(id, { ...this.#clientOptions, ...options });
  }

  /** Lists running sandboxes and those that stopped lately. */
  async list(list: SandboxesListOptions = {}, options?: RequestOptions): Promise<SandboxMetadata[]> {
    const query = labelQuery(list.labels);
    const response = await this.#http.send({ method: "GET", path: "/api/v2/sandboxes", query, options });
    return requireArray(response.body).map(toSandboxMetadata);
  }

  /** Gets a sandbox, or `null` when it is unknown. */
  async get(id: string, options?: RequestOptions): Promise<SandboxDetails | null> {
    return await getSandbox(this.#http, this.#origin(id), id, false, options);
  }

  /** Ends a sandbox and resolves when its volumes are durable and free. Throws {@linkcode NotFoundError} when it has ended already. */
  async kill(id: string, options?: RequestOptions): Promise<void> {
    await killSandbox(this.#http, this.#origin(id), id, options);
  }

  /** Asks for the sandbox to live at least as long as given from now. See {@linkcode Sandbox.extendTimeout}. */
  async extendTimeout(id: string, timeout: Duration, options?: RequestOptions): Promise<Date> {
    return await extendSandbox(this.#http, this.#origin(id), id, timeout, options);
  }

  #origin(id: string): string {
    return this.#http.configuration.sandboxEndpoint(parseSandboxId(id).region);
  }
}
