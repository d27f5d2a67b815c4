import type { Server } from "node:net";
import { promisify } from "node:util";
import { type ErrorCode, STOP_REASONS, type StopReason } from "@caisson/model";
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from "prom-client";
import { DELAY_QUANTILES, EventLoopWatch } from "./event-loop.ts";

/** From a start out of reserves to one that is about to be given up, in seconds. */
const CREATE_BUCKETS = [0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10, 30];

/** Work that no request waits for. `database`: SQLite's log could not be moved. `retry`: undoing and ending, which is tried again until it succeeds. */
const BACKGROUND_WORK = [
  "database",
  "pool",
  "purge",
  "usage",
  "storage",
  "space-guard",
  "node-lease",
  "node",
  "certificate",
  "replication",
  "snapshot-sweep",
  "backup",
  "schedule",
  "restore",
  "retry",
] as const;
export type BackgroundWork = (typeof BACKGROUND_WORK)[number];

/**
 * What an operator's monitoring may know about the server: counts and sizes, by labels of a few fixed values each. Nothing here names an
 * organization, a volume or a sandbox. `docs/metrics.md` lists every one.
 */
export class Metrics implements Disposable {
  readonly registry = new Registry();
  readonly #eventLoop = new EventLoopWatch();
  #countConnections: () => Promise<void> = async () => {};

  readonly sandboxes = this.#gauge("caisson_sandboxes", "Sandboxes by state", ["state"]);
  readonly sandboxPlaces = this.#gauge("caisson_sandbox_places", "Sandboxes that may run at a time");
  readonly sandboxCreates = this.#counter(
    "caisson_sandbox_creates_total",
    "Creates by outcome: ok, cancelled (the client left), or the code of the error",
    ["outcome"],
  );
  readonly sandboxCreateSeconds = new Histogram({
    name: "caisson_sandbox_create_duration_seconds",
    help: "From the request to the sandbox's answer, of creates that succeeded",
    buckets: CREATE_BUCKETS,
    registers: [this.registry],
  });
  readonly sandboxesEnded = this.#counter("caisson_sandboxes_ended_total", "Sandboxes that ended, by reason", [
    "reason",
  ]);
  readonly disks = this.#gauge("caisson_disks", "Volumes and snapshots by node, region, kind and state", [
    "node",
    "region",
    "kind",
    "state",
  ]);
  readonly volumeDamages = this.#counter(
    "caisson_volume_damages_total",
    "Times that a volume lost writes or its file system broke",
  );

  readonly poolSize = this.#gauge("caisson_pool_size_bytes", "What the pool can hold", ["node", "region"]);
  readonly poolUsed = this.#gauge("caisson_pool_used_bytes", "What the pool holds", ["node", "region"]);
  readonly poolFree = this.#gauge("caisson_pool_free_bytes", "All that is free, headroom included", ["node", "region"]);
  readonly poolAvailable = this.#gauge("caisson_pool_available_bytes", "What volumes and snapshots may still take", [
    "node",
    "region",
  ]);
  readonly poolHeadroom = this.#gauge("caisson_pool_headroom_bytes", "Kept free for scratch disks and metadata", [
    "node",
    "region",
  ]);
  readonly poolReclaimable = this.#gauge(
    "caisson_pool_reclaimable_bytes",
    "What purging deleted volumes and snapshots would free at least, as measured lately",
    ["node", "region"],
  );
  readonly poolUsedRatio = this.#gauge(
    "caisson_pool_used_ratio",
    "Of what volumes and snapshots can ever have; 1: nothing more can be stored",
    ["node", "region"],
  );
  readonly poolThreshold = this.#gauge(
    "caisson_pool_threshold_percent",
    "The highest threshold that is reached: 0 (none), 80, 90 or 95",
    ["node", "region"],
  );
  readonly poolDiskUsable = this.#gauge(
    "caisson_pool_disk_usable",
    "Whether a disk of the pool can be used: 1, or 0 when it is missing",
    ["node", "region", "directory"],
  );
  readonly poolDiskSize = this.#gauge("caisson_pool_disk_size_bytes", "What a disk of the pool can hold", [
    "node",
    "region",
    "directory",
  ]);
  readonly poolDiskAvailable = this.#gauge(
    "caisson_pool_disk_available_bytes",
    "What volumes and snapshots may still take on a disk of the pool",
    ["node", "region", "directory"],
  );
  readonly poolHolds = this.#counter(
    "caisson_pool_holds_total",
    "Times that writers were made to stand still because the pool was full",
    ["node", "region"],
  );

  readonly nodeCertificateUntil = this.#gauge(
    "caisson_node_certificate_expires_timestamp_seconds",
    "Until when the certificate of a node on another machine is good; it is renewed when a third of its time is left",
    ["node"],
  );
  readonly authorityUntil = this.#gauge(
    "caisson_authority_expires_timestamp_seconds",
    "Until when the installation's authority is good, which signs for nodes and servers, the newer one while it is being renewed; absent before a machine was let join",
  );
  readonly authorityWaitingNodes = this.#gauge(
    "caisson_authority_waiting_nodes",
    "Nodes that are not known to have a certificate of the new authority; absent unless the authority is being renewed",
  );

  readonly backupAge = this.#gauge(
    "caisson_backup_age_seconds",
    "How old the newest whole backup of the rows in the snapshot store is; absent while none is known",
  );
  readonly replicationWaiting = this.#gauge(
    "caisson_replication_waiting",
    "Snapshots that are to be brought into the snapshot store: all, and those whose last try failed",
    ["state"],
  );
  readonly replicationWaitingAge = this.#gauge(
    "caisson_replication_waiting_age_seconds",
    "How old the oldest snapshot is that is to be brought into the snapshot store; 0: none waits. Absent without a snapshot store",
  );
  readonly replicationLast = this.#gauge(
    "caisson_replication_last_success_timestamp_seconds",
    "When this run of the server brought a snapshot into the snapshot store last; absent while it has not",
  );
  readonly replicationRead = this.#counter(
    "caisson_replication_read_bytes_total",
    "Bytes of snapshots that were read to be brought into the snapshot store",
  );
  readonly replicationSent = this.#counter(
    "caisson_replication_sent_bytes_total",
    "Bytes that were sent to the snapshot store of what was read",
  );
  readonly keyRotationAge = this.#gauge(
    "caisson_key_rotation_waiting_seconds",
    "For how long a rotation of the installation's key waits for `caisson keys finish`; 0: none does. Absent without a snapshot store",
  );
  readonly schedules = this.#gauge(
    "caisson_schedules",
    "Volumes of which snapshots are made by a schedule: all; failing, the last try failed; late, the snapshot store has none that is younger than three periods",
    ["state"],
  );
  readonly replicatedStateAge = this.#gauge(
    "caisson_schedules_replicated_age_seconds",
    "How old the oldest last replicated state of a volume with a schedule is; absent without such volumes and without a snapshot store",
  );
  readonly disksLost = this.#counter(
    "caisson_disks_lost_total",
    "Volumes and snapshots that were lost with a node that was forgotten",
    ["kind"],
  );

  readonly httpRequests = this.#counter(
    "caisson_http_requests_total",
    "Answered requests; an upgrade to WebSocket has status 101",
    ["method", "route", "status"],
  );
  readonly connections = this.#gauge(
    "caisson_connections",
    "Open connections of clients: http (all that speak HTTP so far), websocket (upgraded, to sandboxes)",
    ["protocol"],
  );
  readonly backgroundErrors = this.#counter(
    "caisson_background_errors_total",
    "Failures of work that no request waits for",
    ["work"],
  );
  readonly retriedWork = this.#gauge(
    "caisson_retried_work",
    "Undoing and ending that has failed and is tried again until it succeeds",
  );
  readonly eventLoopDelay = this.#gauge(
    "caisson_event_loop_delay_seconds",
    "How long work waited for the event loop in the last one to two minutes; quantile 1 is the longest block",
    ["quantile"],
  );

  constructor() {
    collectDefaultMetrics({ register: this.registry, eventLoopMonitoringPrecision: 10 });
    // A series that is not there yet cannot be compared with a later value of itself.
    for (const reason of STOP_REASONS) this.sandboxesEnded.inc({ reason }, 0);
    for (const work of BACKGROUND_WORK) this.backgroundErrors.inc({ work }, 0);
    this.sandboxCreates.inc({ outcome: "ok" }, 0);
    for (const kind of ["volume", "snapshot"]) this.disksLost.inc({ kind }, 0);
  }

  countEnd(reason: StopReason): void {
    this.sandboxesEnded.inc({ reason });
  }

  countBackgroundError(work: BackgroundWork): void {
    this.backgroundErrors.inc({ work });
  }

  /** A create that succeeded, with how long it took. */
  countCreate(durationMs: number): void {
    this.sandboxCreates.inc({ outcome: "ok" });
    this.sandboxCreateSeconds.observe(durationMs / 1000);
  }

  countFailedCreate(outcome: ErrorCode | "cancelled"): void {
    this.sandboxCreates.inc({ outcome });
  }

  /** From here on the open connections are told: those of the server, of which some are upgraded to WebSocket. */
  watchConnections(server: Pick<Server, "getConnections">, upgradedCount: () => number): void {
    const countAll = promisify(server.getConnections.bind(server));
    this.#countConnections = async () => {
      const upgraded = upgradedCount();
      this.connections.set({ protocol: "websocket" }, upgraded);
      this.connections.set({ protocol: "http" }, Math.max(0, (await countAll()) - upgraded));
    };
  }

  /** All of it in the Prometheus text format, version 0.0.4. */
  async text(): Promise<string> {
    await this.#countConnections();
    for (const quantile of DELAY_QUANTILES)
      this.eventLoopDelay.set({ quantile }, this.#eventLoop.delaySeconds(quantile));
    return this.registry.metrics();
  }

  [Symbol.dispose](): void {
    this.#eventLoop[Symbol.dispose]();
    this.registry.clear();
  }

  #gauge<Label extends string>(name: string, help: string, labelNames: readonly Label[] = []): Gauge<Label> {
    return new Gauge({ name, help, labelNames, registers: [this.registry] });
  }

  #counter<Label extends string>(name: string, help: string, labelNames: readonly Label[] = []): Counter<Label> {
    return new Counter({ name, help, labelNames, registers: [this.registry] });
  }
}
