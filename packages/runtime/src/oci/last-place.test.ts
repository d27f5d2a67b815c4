import assert from "node:assert/strict";
import { after, before, suite, test } from "node:test";
import { type Harness, makeHarness } from "../../testing/harness.ts";
import { makeOciTestHost } from "../../testing/test-host.ts";
import { TestInternet, WORLD } from "../../testing/test-internet.ts";
import { isInPrivateNetwork } from "../../testing/test-private-network.ts";
import { readScript } from "../../testing/test-sandbox.ts";

suite("the last place", () => {
  if (!isInPrivateNetwork(import.meta.filename)) return;
  let internet: TestInternet;
  let harness: Harness;

  before(async () => {
    internet = await TestInternet.start();
    const network = { nameServers: [WORLD.resolver], placeCount: 1 };
    const host = await makeOciTestHost({ runtimePath: "crun", network });
    harness = makeHarness(host, await host.open());
  });
  after(async () => {
    await harness.runtime.close();
    const debris = await harness.host.findDebris();
    await harness.host.dispose();
    await internet[Symbol.asyncDispose]();
    assert.deepEqual(debris, []);
  });

  test("belongs to a sandbox that has stopped until that is released, and a start waits for it then", async () => {
    const { runtime } = harness;
    const first = await harness.start();
    await assert.rejects(runtime.start(await harness.newSpec()), { code: "SERVER_FULL" });
    await runtime.stop(first.id);
    await first.exited;
    await assert.rejects(
      runtime.start(await harness.newSpec(), AbortSignal.timeout(300)),
      { name: "TimeoutError" },
      "it waits, and no longer than its caller does",
    );
    const second = runtime.start(await harness.newSpec());
    await runtime.release(first.id);
    assert.equal(await readScript(await second, "echo works"), "works");
    await runtime.release((await second).id);
    assert.deepEqual(await runtime.list(), []);
  });
});
