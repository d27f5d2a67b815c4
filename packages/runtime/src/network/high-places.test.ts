import assert from "node:assert/strict";
import { after, before, suite, test } from "node:test";
import { runTool } from "@caisson/linux";
import { describeNetworkConformance } from "../../testing/conformance-network.ts";
import { type Harness, makeHarness } from "../../testing/harness.ts";
import { makeOciTestHost } from "../../testing/test-host.ts";
import { TestInternet, WORLD } from "../../testing/test-internet.ts";
import { isInPrivateNetwork } from "../../testing/test-private-network.ts";
import { readScript, runScript } from "../../testing/test-sandbox.ts";
import { PLACES_PER_BLOCK } from "./places.ts";

const LAST_OF_FIRST = PLACES_PER_BLOCK - 1;
/** More than one block has, and no more than hosts with few process ids have room for. */
const PLACES = 300;

suite("places beyond the first network", () => {
  if (!isInPrivateNetwork(import.meta.filename)) return;
  let internet: TestInternet;
  let harness: Harness;

  before(async () => {
    internet = await TestInternet.start();
    const network = {
      nameServers: [WORLD.silentResolver, WORLD.resolver],
      placeCount: PLACES,
      // The first sandbox has the last place of one network, and the second one the first of the next.
      firstPlace: LAST_OF_FIRST,
    };
    const host = await makeOciTestHost({ runtimePath: "crun", network });
    harness = makeHarness(host, await host.open());
  });
  after(async () => {
    await harness.runtime.close();
    await harness.host.dispose();
    await internet[Symbol.asyncDispose]();
  });

  test("there are as many as were asked for", () => {
    assert.deepEqual([harness.runtime.placeCount, harness.runtime.placeBound], [PLACES, null]);
  });

  // Before all others, which take places.
  describeNetworkConformance(() => harness);

  test("sandboxes there have addresses, hardware addresses and ids of their own, and an egress policy holds", async () => {
    await harness.with({}, async (neighbour) => {
      const address = await readScript(neighbour, "hostname -I");
      assert.match(address, /^10\.213\.1\.\d+$/);
      const ids = await readScript(neighbour, "cat /proc/self/uid_map");
      assert.ok(Number(/^0 +(\d+)/.exec(ids)?.[1]) >= 0x71000000, ids);
      // Without asking: what is permanent does not count in the host's table of neighbours.
      assert.match(await runTool("ip", ["neigh", "show", address]), /lladdr 06:c5:0a:d5:01:[0-9a-f]{2} PERMANENT/);
      assert.match(await readScript(neighbour, "cat /proc/net/arp"), /10\.213\.0\.1 +0x1 +0x6 +02:c5:0a:d5:01:/);
      await readScript(neighbour, "setsid python3 -m http.server 8000 >/dev/null 2>&1 &");
      await readScript(
        neighbour,
        "for i in $(seq 600); do curl -s localhost:8000 >/dev/null && exit; sleep 0.1; done; exit 1",
      );
      const allow = [address, WORLD.web].map((host) => ({ kind: "ipv4" as const, host, port: null }));
      await harness.with({ egress: { allow, secrets: [] } }, async (restricted) => {
        const curl = async (url: string) =>
          (await runScript(restricted, `curl -sS --connect-timeout 5 --max-time 60 ${url}`)).code;
        assert.equal(await curl(`http://${WORLD.web}/`), 0);
        assert.notEqual(await curl(`http://${address}:8000/`), 0, "no list opens another sandbox");
        assert.notEqual(await curl(`http://${WORLD.privateWeb}/`), 0);
      });
    });
  });
});
