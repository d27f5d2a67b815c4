import { mkdtemp, open, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { KeyedLock, PersistentWork, runTool } from "@caisson/linux";
import { assertNoLeaks, requireIsolation } from "@caisson/linux/testing";
import { HostNode } from "../src/host-node.ts";
import type { Node, NodeEvent, TakeNodeEvent } from "../src/node.ts";
import type { NodeOptions } from "../src/open-node.ts";
import { openPool } from "../src/pools/open-pool.ts";
import { EchoRuntime } from "./echo-runtime.ts";

export const TEST_REGION = "ord";
export const TEST_BASE_IMAGE = "builtin:test";
const BASE_IMAGE_BYTES = 64 * 2 ** 20;
const SILENT = { debug() {}, info() {}, warn() {}, error() {} };

/** A node for one run of the suite: a real pool, and sandboxes that only answer. */
export interface TestNode extends AsyncDisposable {
  readonly node: Node;
  readonly runtime: EchoRuntime;
  /** What the node has told, in order. */
  readonly events: readonly NodeEvent[];
}

export interface TestNodeOptions {
  /** What it keeps is there afterwards, for its next run. Default: a directory of its own, which goes with it. */
  readonly directory?: string;
  /** How an event gets to those who are told. Default: at once. */
  readonly deliver?: TakeNodeEvent;
  /** Default: none. */
  readonly replicated?: NodeOptions["pool"]["replicated"];
}

export async function openTestNode(given: TestNodeOptions = {}): Promise<TestNode> {
  await requireIsolation();
  const directory = given.directory ?? (await mkdtemp(join(tmpdir(), "caisson-node-")));
  const events: NodeEvent[] = [];
  const takeEvent = given.deliver ?? (async (event: NodeEvent): Promise<void> => void events.push(event));
  const runtime = new EchoRuntime(join(directory, "run"));
  const options: NodeOptions = {
    directory,
    regions: [TEST_REGION],
    labels: { rack: "b4" },
    baseImage: {
      name: TEST_BASE_IMAGE,
      path: await makeBaseImage(directory),
      key: "test",
      sizeBytes: BASE_IMAGE_BYTES,
    },
    pool: { sizeBytes: null, headroomBytes: null, disks: [], replicated: given.replicated ?? null },
    isAwakeForSyncs: false,
    scratch: { sizeBytes: BASE_IMAGE_BYTES, preparedCount: 1 },
    runtime: {},
    logger: SILENT,
    takeEvent,
  };
  const resources = new AsyncDisposableStack();
  const persistent = new PersistentWork(SILENT);
  const environment = { locks: new KeyedLock(), persistent, logger: SILENT, takeEvent };
  const pool = await openPool(TEST_REGION, options, environment, resources);
  resources.defer(() => runtime.close());
  const node = new HostNode(
    { pools: new Map([[TEST_REGION, pool]]), labels: options.labels, runtime, persistent, logger: SILENT, takeEvent },
    resources,
  );
  return {
    node,
    runtime,
    events,
    async [Symbol.asyncDispose]() {
      await node[Symbol.asyncDispose]();
      if (given.directory !== undefined) return;
      await rm(directory, { recursive: true });
      await assertNoLeaks({ directory });
    },
  };
}

async function makeBaseImage(directory: string): Promise<string> {
  const path = join(directory, "base.ext4");
  await rm(path, { force: true });
  await using file = await open(path, "wx");
  await file.truncate(BASE_IMAGE_BYTES);
  await runTool("mkfs.ext4", ["-q", "-b", "4096", path]);
  return path;
}
