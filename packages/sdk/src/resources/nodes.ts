import { type HttpClient, path, type RequestOptions, requireRecord } from "../core/http.ts";
import { requireArray } from "../core/page.ts";

/** A machine that holds volumes and runs sandboxes. */
export interface Node {
  /** The id, `nod_<20 characters>`. */
  id: string;
  /** `"draining"`: it gets no new sandboxes. `"suspect"`: it gave no sign of life lately, so that nobody knows how it is. `"lost"`: it was given up, and is being forgotten. */
  state: "live" | "draining" | "suspect" | "lost";
  /** Whether it gets no new sandboxes, also while it is suspect. */
  draining: boolean;
  /** The regions that it serves. */
  regions: string[];
  /** Host name or address; with a port, where the server connects to it. */
  address: string;
  /** Whether the server reaches it, so that what it has can be used. */
  connected: boolean;
  /** Why the server does not reach it; `null`: it does. */
  problem: string | null;
  /** Which start of its process began last; empty: none yet. */
  run: string;
  /** Bytes that its pools have free, by region, as it said last. */
  free: Record<string, number>;
  /** Its labels. */
  labels: Record<string, string>;
  /** Raised at each of its starts. */
  generation: number;
  /** When it started last. */
  startedAt: Date;
  /** Its last sign of life. */
  seenAt: Date;
  /** Until when it counts as live without another one. */
  leaseUntil: Date;
  /** Until when its certificate is good, which is renewed when a third of its time is left; `null`: it is in the server's own process and needs none, or was not connected yet. */
  certificateUntil: Date | null;
  /** Sandboxes that it may run. */
  places: number;
  /** Those that it runs, starts or ends. */
  placesTaken: number;
  /** Memory that its sandboxes may have together, in MiB; `null`: they share what the host has. */
  memoryMib: number | null;
  /** What they were given, in MiB. */
  memoryTakenMib: number;
}

/** What would be lost with a node. */
export interface NodeLoss {
  /** Its volumes, also deleted ones that could be restored. */
  volumes: number;
  /** The first hundred of them, the oldest first. */
  volumeNames: LostVolumeName[];
  /** Snapshots without a whole copy in the snapshot store. */
  snapshots: number;
  /** Snapshots with one: they stay usable. */
  replicatedSnapshots: number;
  /** Sandboxes that have not ended. */
  sandboxes: number;
}

/** A volume of {@linkcode NodeLoss}. */
export interface LostVolumeName {
  /** The slug of the organization that it belongs to. */
  organization: string;
  /** Its own slug. */
  slug: string;
}

/** How {@linkcode Nodes.forget} forgets. */
export interface ForgetNodeOptions extends RequestOptions {
  /** The node is lost for ever, and what it has with it. Default: `false`, it must have nothing. */
  lost?: boolean;
}

/** With it one machine joins as a node, once, until it expires. */
export interface JoinToken {
  /** The id, `jtk_<20 characters>`. */
  id: string;
  /** The only region that the node may have; `null`: those in its settings. */
  region: string | null;
  /** When it was made. */
  createdAt: Date;
  /** Until when it can be used. */
  expiresAt: Date;
  /** The node that has joined with it; `null`: nobody yet. */
  nodeId: string | null;
}

/** A token for joining with its text, which is not shown again. */
export interface CreatedJoinToken extends JoinToken {
  /** For `caisson up --role node --join`. */
  token: string;
  /** Where the machine reaches the server, as the token says. */
  serverUrl: string;
}

/** How {@linkcode Nodes.createToken} makes one. */
export interface JoinTokenInit {
  /** How long it can be used, in whole seconds. Default: 3600; at most 30 days. */
  expiresSeconds?: number;
  /** The only region that the node may have. Default: those in its settings. */
  region?: string;
}

/** The authority that signs the certificates of nodes and servers, and how far its renewal is. */
export interface NodeAuthority {
  /** Those that are believed, the oldest first. Empty: none was made yet. Two: it is being renewed, and nodes get certificates of the second one. */
  authorities: BelievedAuthority[];
  /** Ids of nodes whose certificate is not known to be of the newest authority: with two, those that would be locked out if the old one were retired; with one, those that are. */
  waitingNodes: string[];
}

/** An authority of {@linkcode NodeAuthority}. */
export interface BelievedAuthority {
  /** From 1 on, in the order in which they were made. */
  number: number;
  /** SHA-256 of its certificate, in hex. */
  fingerprint: string;
  /** Until when it is good. */
  expiresAt: Date;
}

/** How {@linkcode Nodes.retireAuthority} retires. */
export interface RetireAuthorityOptions extends RequestOptions {
  /** Also if that locks out nodes until they join again. Default: `false`. */
  lockOut?: boolean;
}

/** The server's nodes: for tokens of the server's first organization; others get {@linkcode PermissionDeniedError}. */
export class Nodes {
  readonly #http: HttpClient;

  /** @internal */
  constructor(http: HttpClient) {
    this.#http = http;
  }

  /** All nodes. */
  async list(options?: RequestOptions): Promise<Node[]> {
    const response = await this.#http.send({ method: "GET", path: "/api/v1/nodes", options });
    return requireArray(response.body).map(toNode);
  }

  /** Gets a node. Throws {@linkcode NotFoundError}. */
  async get(id: string, options?: RequestOptions): Promise<Node> {
    return toNode((await this.#http.send({ method: "GET", path: path`/api/v1/nodes/${id}`, options })).body);
  }

  /** Keeps new sandboxes away from a node, until {@linkcode Nodes.undrain}; those that it has go on. Throws {@linkcode NotFoundError}. */
  drain(id: string, options?: RequestOptions): Promise<Node> {
    return this.#change(path`/api/v1/nodes/${id}/drain`, options);
  }

  /** Lets a node have new sandboxes again. Throws {@linkcode NotFoundError}. */
  undrain(id: string, options?: RequestOptions): Promise<Node> {
    return this.#change(path`/api/v1/nodes/${id}/undrain`, options);
  }

  /** Says where a node is from now on, as `HOST:PORT`. A connection to it that stands stays. Throws {@linkcode NotFoundError}. */
  async setAddress(id: string, address: string, options?: RequestOptions): Promise<Node> {
    const body = { address };
    return toNode((await this.#http.send({ method: "PATCH", path: path`/api/v1/nodes/${id}`, body, options })).body);
  }

  /** What would be lost if the node were forgotten as lost. Throws {@linkcode NotFoundError}. */
  async loss(id: string, options?: RequestOptions): Promise<NodeLoss> {
    const { body } = await this.#http.send({ method: "GET", path: path`/api/v1/nodes/${id}/loss`, options });
    const wire = requireRecord(body);
    return {
      volumes: Number(wire.volumes),
      volumeNames: requireArray(wire.volume_names).map((value) => {
        const { organization, slug } = requireRecord(value);
        return { organization: String(organization), slug: String(slug) };
      }),
      snapshots: Number(wire.snapshots),
      replicatedSnapshots: Number(wire.replicated_snapshots),
      sandboxes: Number(wire.sandboxes),
    };
  }

  /**
   * Forgets a node that is gone for good. With `lost`, what it has is lost with it: its sandboxes end, its volumes and its snapshots that are not replicated cannot be used any more. Throws
   * {@linkcode NotFoundError}, and {@linkcode ConflictError} while it is live, and without `lost` while it holds disks or sandboxes.
   */
  async forget(id: string, options: ForgetNodeOptions = {}): Promise<void> {
    const query = { lost: options.lost === true ? "true" : undefined };
    await this.#http.send({ method: "DELETE", path: path`/api/v1/nodes/${id}`, query, options });
  }

  /** Makes a token with which one machine joins as a node, once. The machine reaches the server as this client does, or by its setting `public_url`. */
  async createToken(init: JoinTokenInit = {}, options?: RequestOptions): Promise<CreatedJoinToken> {
    const wire = {
      ...(init.expiresSeconds === undefined ? {} : { expires_seconds: init.expiresSeconds }),
      ...(init.region === undefined ? {} : { region: init.region }),
    };
    const { body } = await this.#http.send({ method: "POST", path: "/api/v1/nodes/tokens", body: wire, options });
    const { token, server_url: serverUrl } = requireRecord(body);
    return { ...toJoinToken(body), token: String(token), serverUrl: String(serverUrl) };
  }

  /** The tokens for joining that have not expired, the newest first. */
  async listTokens(options?: RequestOptions): Promise<JoinToken[]> {
    const response = await this.#http.send({ method: "GET", path: "/api/v1/nodes/tokens", options });
    return requireArray(response.body).map(toJoinToken);
  }

  /** Revokes a token for joining; a node that has joined with it stays. Throws {@linkcode NotFoundError}. */
  async revokeToken(id: string, options?: RequestOptions): Promise<void> {
    await this.#http.send({ method: "DELETE", path: path`/api/v1/nodes/tokens/${id}`, options });
  }

  /** The authority that signs for nodes and servers. */
  async authority(options?: RequestOptions): Promise<NodeAuthority> {
    return toAuthority((await this.#http.send({ method: "GET", path: "/api/v1/nodes/authority", options })).body);
  }

  /** Makes a new authority, which is believed beside the old one, and which each node gets a certificate of. Throws {@linkcode BadRequestError} while it is being renewed already, and before there is one. */
  async renewAuthority(options?: RequestOptions): Promise<NodeAuthority> {
    const { body } = await this.#http.send({ method: "POST", path: "/api/v1/nodes/authority/renew", options });
    return toAuthority(body);
  }

  /**
   * Retires the old one of two authorities, and the tokens for joining, which name it. Throws {@linkcode ConflictError} while nodes would be locked out, unless `lockOut`, and {@linkcode BadRequestError} unless there are two.
   */
  async retireAuthority(options: RetireAuthorityOptions = {}): Promise<NodeAuthority> {
    const { lockOut = false, ...request } = options;
    const { body } = await this.#http.send({
      method: "POST",
      path: "/api/v1/nodes/authority/retire",
      body: { lock_out: lockOut },
      options: request,
    });
    return toAuthority(body);
  }

  async #change(url: string, options: RequestOptions | undefined): Promise<Node> {
    return toNode((await this.#http.send({ method: "POST", path: url, isRepeatable: true, options })).body);
  }
}

function toNode(value: unknown): Node {
  const wire = requireRecord(value);
  const date = (name: string) => new Date(String(wire[name]));
  return {
    id: String(wire.id),
    state: wire.state as Node["state"],
    draining: wire.draining === true,
    regions: requireArray(wire.regions).map(String),
    address: String(wire.address),
    connected: wire.connected === true,
    problem: typeof wire.problem === "string" ? wire.problem : null,
    run: String(wire.run),
    free: requireRecord(wire.free) as Record<string, number>,
    labels: requireRecord(wire.labels) as Record<string, string>,
    generation: Number(wire.generation),
    startedAt: date("started_at"),
    seenAt: date("seen_at"),
    leaseUntil: date("lease_until"),
    certificateUntil: typeof wire.certificate_until === "string" ? date("certificate_until") : null,
    places: Number(wire.places),
    placesTaken: Number(wire.places_taken),
    memoryMib: typeof wire.memory_mib === "number" ? wire.memory_mib : null,
    memoryTakenMib: Number(wire.memory_taken_mib),
  };
}

function toAuthority(value: unknown): NodeAuthority {
  const wire = requireRecord(value);
  return {
    authorities: requireArray(wire.authorities).map((item) => {
      const { number, fingerprint, expires_at: expiresAt } = requireRecord(item);
      return { number: Number(number), fingerprint: String(fingerprint), expiresAt: new Date(String(expiresAt)) };
    }),
    waitingNodes: requireArray(wire.waiting_nodes).map(String),
  };
}

function toJoinToken(value: unknown): JoinToken {
  const wire = requireRecord(value);
  const text = (name: string) => (typeof wire[name] === "string" ? wire[name] : null);
  return {
    id: String(wire.id),
    region: text("region"),
    createdAt: new Date(String(wire.created_at)),
    expiresAt: new Date(String(wire.expires_at)),
    nodeId: text("node_id"),
  };
}
