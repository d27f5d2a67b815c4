import { beingTakenOver, diskLost, type Owner, type Replication } from "@caisson/database";
import { CaissonError, classOfId } from "@caisson/model";
import type { Node, NodeDescription } from "@caisson/node";
import type { Region } from "../region.ts";
import type { NodeAddress } from "./node-address.ts";
import type { RemoteNode } from "./remote-node.ts";

/** A run of a node that this server can reach, and what it said of itself when it began. */
export interface ConnectedNode {
  readonly owner: Owner;
  readonly node: Node;
  readonly regions: ReadonlyMap<string, Region>;
  /** Sandboxes that its host has room for. */
  readonly places: Pick<NodeDescription, "placeCount" | "placeBound">;
}

export function connectedNode(owner: Owner, node: Node, description: NodeDescription): ConnectedNode {
  const regions = description.regions.map(({ name, baseImages, hasReplicated, shared = null }): [string, Region] => [
    name,
    { name, hasReplicated, shared, baseImages: new Map(baseImages.map((image) => [image.name, image])) },
  ]);
  return { owner, node, regions: new Map(regions), places: description };
}

/** What is known of a node that this server connects to. */
export type ExpectedNode = Pick<RemoteNode, "problem" | "triedAddress" | "isThere">;

/** Something that exists on one node. */
export interface Placed {
  readonly id: string;
  readonly region: string;
  readonly owner: Pick<Owner, "nodeId">;
  /** Of a disk: when its node was given up. */
  readonly lostAtMs?: number | null;
  /** Of a disk: whom its node has to shut out before it is used. */
  readonly takenFrom?: readonly string[];
  readonly replication?: Pick<Replication, "state">;
}

/** The nodes that this server can reach now. What is on another one waits for it: use cases ask here for each thing that they touch. */
export class NodeDirectory {
  /** The node of this server's own host; null: it has none. */
  readonly ownId: string | null;
  readonly #connected = new Map<string, ConnectedNode>();
  readonly #expected = new Map<string, ExpectedNode>();
  readonly #lost = new Set<string>();
  readonly #shutOut = new Map<string, number>();
  #rowRegions: ReadonlySet<string> = new Set();

  constructor(ownId: string | null) {
    this.ownId = ownId;
  }

  /** Replaces an earlier run of the same node. */
  add(connected: ConnectedNode): void {
    this.#connected.set(connected.owner.nodeId, connected);
  }

  /** Ends the use of a run that was added, unless another one of its node has been added since. */
  remove(connected: ConnectedNode): void {
    const { nodeId } = connected.owner;
    if (this.get(nodeId) === connected) this.#connected.delete(nodeId);
  }

  /** Says that this server connects to a node, and who knows why it cannot. */
  expect(nodeId: string, remote: ExpectedNode): void {
    this.#expected.set(nodeId, remote);
  }

  /** Takes `expect` back, and what was added of the node. */
  forget(nodeId: string): void {
    this.#expected.delete(nodeId);
    this.#connected.delete(nodeId);
  }

  /** Says that a node was given up for ever. */
  lose(nodeId: string): void {
    this.#lost.add(nodeId);
  }

  /** Whether a node was given up while this server runs: what is undone or ended there has nothing left to undo. */
  isLost(nodeId: string): boolean {
    return this.#lost.has(nodeId);
  }

  /** Says that a run of a node was shut out, because a disk was taken over from it. */
  shutOut({ nodeId, generation }: Owner): void {
    this.#shutOut.set(nodeId, Math.max(generation, this.#shutOut.get(nodeId) ?? 0));
  }

  /** Whether a run of a node was shut out while this server runs: nothing of it goes on. */
  isShutOut({ nodeId, generation }: Owner): boolean {
    return generation <= (this.#shutOut.get(nodeId) ?? 0);
  }

  /** That of this server's own host; null: it has none. */
  get own(): ConnectedNode | null {
    return this.ownId === null ? null : this.get(this.ownId);
  }

  /** Why this server cannot reach a node, as the end of a sentence; null: it can. For administrators alone, since it tells addresses and certificates of other machines. */
  whyNot(nodeId: string): string | null {
    if (this.#connected.has(nodeId)) return null;
    const remote = this.#expected.get(nodeId);
    if (remote === undefined) return "this server is not connected to it";
    return remote.problem ?? "what ran there before is being settled";
  }

  /** Whether this server has found out that it cannot reach a node on another machine, at that address. One that has just begun to lead, or cannot read where the node is, does not know yet. */
  isKnownAway(nodeId: string, address: NodeAddress): boolean {
    const remote = this.#expected.get(nodeId);
    const tried = remote?.triedAddress;
    return remote?.problem != null && tried?.host === address.host && tried.port === address.port;
  }

  /** As `isKnownAway`, and finds out now, in 5 s at most, where no try since the last connection is over. Throws `NODE_UNAVAILABLE` where it cannot be tried. */
  async findAway(nodeId: string, address: NodeAddress): Promise<boolean> {
    const remote = this.#expected.get(nodeId);
    if (remote?.problem != null && remote.triedAddress === null) await remote.isThere();
    return this.isKnownAway(nodeId, address);
  }

  /**
   * Whether that is still so: tries to connect once more, because the last try may be 15 s old, and what kept it from the node may have been this server's own network. Takes 5 s at most. Throws `NODE_UNAVAILABLE` where it cannot be tried.
   */
  async confirmAway(nodeId: string, address: NodeAddress): Promise<boolean> {
    const remote = this.#expected.get(nodeId);
    if (remote === undefined || !this.isKnownAway(nodeId, address) || (await remote.isThere())) return false;
    return this.isKnownAway(nodeId, address);
  }

  /** Those that can be reached, in no particular order. */
  all(): readonly ConnectedNode[] {
    return [...this.#connected.values()];
  }

  /** Null: it cannot be reached. */
  get(nodeId: string): ConnectedNode | null {
    return this.#connected.get(nodeId) ?? null;
  }

  /** The node of something that exists; null: it cannot be reached, or has no pool of that region any more. */
  find({ owner, region }: Omit<Placed, "id">): ConnectedNode | null {
    const connected = this.get(owner.nodeId);
    return connected?.regions.has(region) ? connected : null;
  }

  /**
   * The node of something that exists. Throws `DISK_LOST` for a disk whose node was forgotten, `NODE_UNAVAILABLE` when it cannot be reached, and for a disk that it is taking over, and `REGION_UNAVAILABLE` when its settings do not name the region any
   * more: what lies there is kept, and can be used again when they do.
   */
  of(thing: Placed): ConnectedNode {
    const connected = this.find(thing);
    if (connected === null) throw this.unavailable(thing);
    if ((thing.takenFrom?.length ?? 0) > 0) throw beingTakenOver(thing.id, thing.owner.nodeId);
    return connected;
  }

  /** Why something that exists cannot be used, with what to do; null: it can, also from the snapshot store where its node was forgotten. */
  problem(thing: Placed): string | null {
    if ((thing.lostAtMs ?? null) !== null && thing.replication?.state === "replicated") return null;
    return this.find(thing) === null ? this.unavailable(thing).message : null;
  }

  /** Says which regions the rows of nodes have, also of those that cannot be reached. */
  knowRegions(regions: ReadonlySet<string>): void {
    this.#rowRegions = regions;
  }

  /** Whether any node has the region, also one that cannot be reached now. */
  hasRegion(region: string): boolean {
    return this.#rowRegions.has(region) || this.inRegion(region).length > 0;
  }

  /** Where things go that are given no region: the first region of this server's settings, or, when no node has that, the first that there is. */
  defaultRegion(wanted: string | undefined): string {
    if (wanted !== undefined && this.hasRegion(wanted)) return wanted;
    const known = [...this.#rowRegions, ...this.all().flatMap(({ regions }) => [...regions.keys()])];
    return known.toSorted()[0] ?? wanted ?? "";
  }

  /** Those that can be reached and have a pool of the region. */
  inRegion(region: string): readonly ConnectedNode[] {
    return this.all().filter(({ regions }) => regions.has(region));
  }

  /** Nodes that this server connects to, and cannot reach now. */
  unreachableIds(): readonly string[] {
    return [...this.#expected.keys()].filter((id) => !this.#connected.has(id));
  }

  /** The error of `of`, for something that `find` has not found. */
  unavailable(thing: Placed): CaissonError {
    const {
      id,
      region,
      owner: { nodeId },
      lostAtMs = null,
    } = thing;
    if (lostAtMs !== null) return diskLost({ ...thing, lostAtMs });
    if (this.get(nodeId) === null)
      return new CaissonError(
        "NODE_UNAVAILABLE",
        `Cannot use ${id}: it is on node ${nodeId}, which this server cannot reach. Try again later: an administrator sees with \`caisson nodes show ${nodeId}\` why` +
          (isDisk(id) && classOfId(id) === "replicated"
            ? ". Where another node of the region has the same Ceph pool, that takes it over when it is used after the lease of its node has run out"
            : ""),
      );
    return new CaissonError(
      "REGION_UNAVAILABLE",
      `Cannot use ${id}: its region ${JSON.stringify(region)} is not in the settings of ${nodeId === this.ownId ? "this server" : `node ${nodeId}`}. Add it to "regions" and start ${nodeId === this.ownId ? "the server" : "that node"} again`,
    );
  }
}

function isDisk(id: string): boolean {
  return id.startsWith("vol_") || id.startsWith("snp_");
}
