import { createServer, type IncomingHttpHeaders, type Server } from "node:http";
import type { AddressInfo } from "node:net";

/** A request as the fake server saw it. */
export interface SeenRequest {
  readonly method: string;
  readonly url: URL;
  readonly headers: IncomingHttpHeaders;
  readonly body: unknown;
}

/** What to answer: a status and a JSON body, text as it is, `"cut"` to break the connection off, `"silence"` to say nothing at all. */
export type FakeAnswer =
  | {
      readonly status?: number;
      readonly body?: unknown;
      readonly text?: string;
      readonly headers?: Record<string, string>;
    }
  | "cut"
  | "silence";

/** An HTTP server that answers as a test says, to provoke what a real one does rarely. */
export class FakeApi implements AsyncDisposable {
  readonly requests: SeenRequest[] = [];
  readonly #server: Server;

  private constructor(answer: (request: SeenRequest, count: number) => FakeAnswer) {
    this.#server = createServer(async (request, response) => {
      const chunks: Buffer[] = [];
      for await (const chunk of request) chunks.push(chunk);
      const text = Buffer.concat(chunks).toString();
      const url = new URL(request.url ?? "/", this.endpoint);
      const seen = {
        method: request.method ?? "",
        url,
        headers: request.headers,
        body: text === "" ? undefined : JSON.parse(text),
      };
      this.requests.push(seen);
      const result = answer(seen, this.requests.length);
      if (result === "silence") return;
      if (result === "cut") {
        response.destroy();
        return;
      }
      const { status = 200, body, text: raw, headers = {} } = result;
      response.writeHead(status, { "x-deno-trace-id": `trace-${this.requests.length}`, ...headers });
      response.end(raw ?? (body === undefined ? "" : JSON.stringify(body)));
    });
  }

  static async start(answer: (request: SeenRequest, count: number) => FakeAnswer): Promise<FakeApi> {
    const api = new FakeApi(answer);
    await new Promise<void>((resolve) => api.#server.listen(0, "127.0.0.1", resolve));
    return api;
  }

  get endpoint(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  get options(): { token: string; apiEndpoint: string; sandboxEndpoint: string } {
    return { token: "ddo_secret", apiEndpoint: this.endpoint, sandboxEndpoint: this.endpoint };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}

/** A volume in the common form of the wire. */
export const WIRE_VOLUME = {
  id: "vol_ord_0123456789abcdefghjk",
  slug: "cache",
  region: "ord",
  capacity: 1_000_000_000,
  estimated_allocated_size: 4096,
  estimated_flattened_size: 8192,
  is_bootable: false,
  base_snapshot: null,
};

/** The same volume with what Caisson adds. */
export const EXTENDED_VOLUME = {
  ...WIRE_VOLUME,
  used: 8192,
  inodes: 1024,
  used_inodes: 11,
  exclusive: 4096,
  usage_measured_at: "2026-01-30T18:34:00.000Z",
  labels: { team: "a" },
  created_at: "2026-01-30T18:33:40.790Z",
  deleted_at: null,
  purge_at: null,
  node: "nod_0123456789abcdefghjk",
  storage_class: "local" as const,
  attached_to: "sbx_ord_0123456789abcdefghjk",
  unavailable: "Mount the disk",
  last_error: { message: "Writes are lost", at: "2026-01-30T18:33:40.790Z" },
  parent: { kind: "image", id: "builtin:debian-13", slug: "builtin:debian-13" },
  schedule: { every: "5m", next_at: "2026-01-30T18:38:40.790Z", error: null, replicates: true },
  replicated_at: "2026-01-30T18:33:41.000Z",
};

/** A snapshot with what Caisson adds. */
export const EXTENDED_SNAPSHOT = {
  inodes: 1024,
  used_inodes: 12,
  exclusive: 3,
  usage_measured_at: null,
  id: "snp_ord_0123456789abcdefghjk",
  slug: "cache-1",
  region: "ord",
  allocated_size: 1,
  flattened_size: 2,
  is_bootable: true,
  volume: { id: WIRE_VOLUME.id, slug: "cache" },
  bootable: true,
  labels: {},
  created_at: "2026-01-30T18:33:40.790Z",
  deleted_at: "2026-01-31T00:00:00.000Z",
  purge_at: "2026-02-01T00:00:00.000Z",
  node: "nod_0123456789abcdefghjk",
  storage_class: "local" as const,
  consistency: "frozen",
  base_snapshot: null,
  automatic: true,
  replication: {
    state: "replicated",
    at: "2026-01-30T19:00:00.000Z",
    ...{ bytes: 30, read: 100, shared: 7, sent: 20, manifest: "manifests/org/snp", error: null, retry_at: null },
  },
};
