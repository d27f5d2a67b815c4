import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite, test } from "node:test";
import { openSqliteStore } from "@caisson/database";
import { SAMPLE_OWNER, sampleNode } from "@caisson/database/testing";
import { KeyedLock, PersistentWork } from "@caisson/linux";
import { decodeSandboxConfig } from "@caisson/protocol";
import pino from "pino";
import type { AppContext } from "../context.ts";
import { LiveSandboxes } from "./live-sandboxes.ts";
import { createSandbox } from "./sandbox-create.ts";

suite("the creation of a sandbox", () => {
  test("that is refused leaves no end that others would wait for, also when its client leaves afterwards", async () => {
    const directory = await mkdtemp(join(tmpdir(), "caisson-refused-"));
    const store = openSqliteStore(join(directory, "caisson.db"));
    await store.nodes.begin(sampleNode(), 60_000);
    const logger = pino({ level: "silent" });
    const organization = { id: "org_a", slug: "a", createdAtMs: 0 };
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
      hostPlaces: { placeCount: 1, placeBound: null },
      store,
      owner: SAMPLE_OWNER,
      regions: new Map([["ord", { name: "ord", baseImages: new Map([["builtin:debian-13", { imageId: "img_a" }]]) }]]),
      locks: new KeyedLock(),
      live: new WatchedSandboxes(),
      persistent: new PersistentWork(logger),
      logger,
    } as unknown as AppContext;
    const client = new AbortController();
    const header = Buffer.from("{}").toString("base64");
    const config = decodeSandboxConfig(header, Date.now());
    const actor = { token: { id: "tok_a", organizationId: "org_a", name: "a", createdAtMs: 0 }, organization };
    await assert.rejects(createSandbox(app, actor, config, null, client.signal), {
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
});
