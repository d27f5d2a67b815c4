import { resolveConfiguration, type SandboxEndpointOptions } from "./core/configuration.ts";
import { HttpClient } from "./core/http.ts";
import { inspectAs, inspectSymbol } from "./core/inspect.ts";
import { notSupported } from "./process/deno.ts";
import { Backups } from "./resources/backups.ts";
import { Nodes } from "./resources/nodes.ts";
import { Organizations } from "./resources/organizations.ts";
import { Pools } from "./resources/pools.ts";
import { Previews } from "./resources/previews.ts";
import { Sandboxes } from "./resources/sandboxes.ts";
import { SnapshotStore } from "./resources/snapshot-store.ts";
import { Snapshots } from "./resources/snapshots.ts";
import { Ssh } from "./resources/ssh.ts";
import { SshKeys } from "./resources/ssh-keys.ts";
import { Tokens } from "./resources/tokens.ts";
import { Volumes } from "./resources/volumes.ts";

/**
 * A client of a Caisson server.
 *
 * ```ts
 * const client = new Client();
 * const volume = await client.volumes.create({ slug: "dataset", region: "ord", capacity: "1GB" });
 * for await (const { slug, used } of await client.volumes.list()) console.log(slug, used);
 * ```
 *
 * Calls that may be repeated safely are repeated after network failures and answers that say "not now", with growing pauses.
 */
export class Client {
  /** The organization's volumes. */
  readonly volumes: Volumes;
  /** The organization's snapshots. */
  readonly snapshots: Snapshots;
  /** The organization's sandboxes. */
  readonly sandboxes: Sandboxes;
  /** Addresses of servers inside sandboxes. */
  readonly previews: Previews;
  /** SSH user names of sandboxes, and what clients need to know of the server. */
  readonly ssh: Ssh;
  /** Public keys that may log in to the organization's sandboxes. */
  readonly sshKeys: SshKeys;
  /** The organization's access tokens. */
  readonly tokens: Tokens;
  /** The server's organizations. */
  readonly organizations: Organizations;
  /** The server's storage pools. */
  readonly pools: Pools;
  /** The server's snapshot store. */
  readonly snapshotStore: SnapshotStore;
  /** The server's nodes. */
  readonly nodes: Nodes;
  /** Backups of the server's rows. */
  readonly backups: Backups;
  readonly #apiEndpoint: string;

  /** Throws {@linkcode MissingTokenError} or {@linkcode InvalidApiEndpoint} when the options and the environment do not suffice. */
  constructor(options: SandboxEndpointOptions = {}) {
    const http = new HttpClient(resolveConfiguration(options));
    this.#apiEndpoint = http.configuration.apiEndpoint;
    this.volumes = new Volumes(http);
    this.snapshots = new Snapshots(http);
    this.sandboxes = new Sandboxes(http, options);
    this.previews = new Previews(http);
    this.ssh = new Ssh(http);
    this.sshKeys = new SshKeys(http);
    this.tokens = new Tokens(http);
    this.organizations = new Organizations(http);
    this.pools = new Pools(http);
    this.snapshotStore = new SnapshotStore(http);
    this.nodes = new Nodes(http);
    this.backups = new Backups(http);
  }

  /** Apps are not part of Caisson. Always throws {@linkcode NotSupportedError}. */
  get apps(): never {
    throw notSupported("Cannot use `apps`");
  }

  /** Layers are not part of Caisson. Always throws {@linkcode NotSupportedError}. */
  get layers(): never {
    throw notSupported("Cannot use `layers`");
  }

  /** Revisions are not part of Caisson. Always throws {@linkcode NotSupportedError}. */
  get revisions(): never {
    throw notSupported("Cannot use `revisions`");
  }

  /** Timelines are not part of Caisson. Always throws {@linkcode NotSupportedError}. */
  get timelines(): never {
    throw notSupported("Cannot use `timelines`");
  }

  /** @internal */
  [inspectSymbol](depth: number, options: object, inspect: unknown): string {
    return inspectAs("Client", { apiEndpoint: this.#apiEndpoint }, depth, options, inspect);
  }
}
