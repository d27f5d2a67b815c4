import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite, test } from "node:test";
import { type NodeObstacle, openSqliteStore } from "@caisson/database";
import { SAMPLE_OWNER, sampleNode } from "@caisson/database/testing";
import { KeyedLock, PersistentWork } from "@caisson/linux";
import { CaissonError } from "@caisson/model";
import type { Node, NodeDescription } from "@caisson/node";
import { decodeSandboxConfig } from "@caisson/protocol";
import pino from "pino";
import type { AppContext } from "../context.ts";
import { connectedNode, NodeDirectory } from "../nodes/node-directory.ts";
import { LiveSandboxes } from "./live-sandboxes.ts";
import { createSandbox } from "./sandbox-create.ts";

/** The directory of one node, which has nothing but its places. */
function directoryOf(places: Pick<NodeDescription, "placeCount" | "placeBound">): NodeDirectory {
  const nodes = new NodeDirectory(SAMPLE_OWNER.nodeId);
  const base = { name: "builtin:debian-13", imageId: "img_a", sizeBytes: 1 };
  nodes.add(
    connectedNode(SAMPLE_OWNER, {} as Node, {
      ...places,
      runId: "run_a",
      regions: [{ name: "ord", baseImages: [base], hasReplicated: false }],
      labels: {},
      retriedWorkCount: 0,
    }),
  );
  return nodes;
}

const ACTOR = {
  token: { id: "tok_a", organizationId: "org_a", name: "a", createdAtMs: 0 },
  organization: { id: "org_a", slug: "a", createdAtMs: 0 },
};

suite("the creation of a sandbox", () => {
  test("that is refused leaves no end that others would wait for, also when its client leaves afterwards", async () => {
    const directory = await mkdtemp(join(tmpdir(), "caisson-refused-"));
    const store = openSqliteStore(join(directory, "caisson.db"));
    await store.nodes.begin(sampleNode(), 60_000);
    const logger = pino({ level: "silent" });
    const endings: Promise<boolean>[] = [];
    class WatchedSandboxes extends LiveSandboxes {
      override trackEnding(id: string, ending: Promise<boolean>): void {
        endings.push(ending);
        super.trackEnding(id, ending);
      }
    }
    // A refused creation gets to nothing else.
    const app = {
      config: { regions: ["ord"], sandboxes: { max: 1, keptPlaces: null, maxPerOrganization: 0 } },
      store,
      nodes: directoryOf({ placeCount: 1, placeBound: null }),
      locks: new KeyedLock(),
      live: new WatchedSandboxes(),
      persistent: new PersistentWork(logger),
      logger,
    } as unknown as AppContext;
    const client = new AbortController();
    const header = Buffer.from("{}").toString("base64");
    const config = decodeSandboxConfig(header, Date.now());
    await assert.rejects(createSandbox(app, ACTOR, config, null, client.signal), {
      code: "CONCURRENCY_LIMIT_EXCEEDED",
    });
    client.abort(new Error("gone"));
    assert.deepEqual(
      await Promise.all(endings.map((ending) => Promise.race([ending, false]))),
      endings.map(() => true),
    );
    await store.close();
    await rm(directory, { recursive: true });
  });

  test("that finds no place says whether the setting or the host is the limit", async () => {
    const logger = pino({ level: "silent" });
    const refusal = async (max: number, placeBound: string | null, obstacles: readonly NodeObstacle[] = []) => {
      const app = {
        config: { regions: ["ord"], sandboxes: { max, keptPlaces: 0, maxPerOrganization: 9 } },
        nodes: directoryOf({ placeCount: 4, placeBound }),
        store: {
          sandboxes: {
            reserve: async () => ({ kind: "full", isKept: false, places: Math.min(max, 4), kept: 0, obstacles }),
          },
        },
        locks: new KeyedLock(),
        live: new LiveSandboxes(),
        persistent: new PersistentWork(logger),
        logger,
      } as unknown as AppContext;
      const config = decodeSandboxConfig(Buffer.from("{}").toString("base64"), Date.now());
      const error: unknown = await createSandbox(app, ACTOR, config, null, new AbortController().signal).catch(
        (refused: unknown) => refused,
      );
      assert.ok(error instanceof CaissonError);
      assert.equal(error.code, "SERVER_FULL");
      return error.message;
    };
    assert.match(await refusal(2, "the host has process ids for 4"), /All 2 places .* \(sandboxes\.max\)/);
    assert.match(await refusal(4, null), /All 4 places .* \(sandboxes\.max\)/);
    const host = await refusal(9, "the host has process ids for 4");
    assert.match(host, /All 4 places .* because the host has process ids for 4$/);
    assert.doesNotMatch(host, /sandboxes\.max/);
    const one = { nodeId: "nod_a", obstacle: "full" } as const;
    assert.match(await refusal(2, null, [one]), /^All 2 places for sandboxes on this server are taken/);
    const several = [
      one,
      { nodeId: "nod_b", obstacle: "draining" },
      { nodeId: "nod_c", obstacle: "unavailable" },
      ...Array.from({ length: 9 }, (_, index) => ({ nodeId: `nod_${index}`, obstacle: "full" as const })),
    ] as const;
    assert.match(
      await refusal(2, null, several),
      /^All 2 places for sandboxes on the nodes of region "ord" \(full: nod_a, (nod_\d, ){7}2 more; being drained: nod_b; away: nod_c\) are taken \(sandboxes\.max\)/,
    );
  });
});
