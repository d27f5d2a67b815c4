import { after, before, suite } from "node:test";
import { describeRuntimeConformance } from "../../testing/conformance.ts";
import { makeOciTestHost } from "../../testing/test-host.ts";
import { TestInternet, WORLD } from "../../testing/test-internet.ts";
import { isInPrivateNetwork } from "../../testing/test-private-network.ts";

suite("OCI runtime", () => {
  if (!isInPrivateNetwork(import.meta.filename)) return;
  let internet: TestInternet;
  before(async () => {
    internet = await TestInternet.start();
  });
  after(() => internet[Symbol.asyncDispose]());

  const network = { nameServers: [WORLD.silentResolver, WORLD.resolver] };
  // The network is made before the OCI runtime is asked for anything, so one of them is enough.
  for (const [runtimePath, hasNetwork] of [
    ["crun", true],
    ["runc", false],
  ] as const) {
    const host = { runtimePath, network };
    // The one as the kernel is, and the other in the way that every kernel has.
    const warm = { count: 1, ...(runtimePath === "runc" && { isPortable: true }) };
    describeRuntimeConformance(`${runtimePath}, cold`, () => makeOciTestHost(host), { hasNetwork });
    describeRuntimeConformance(`${runtimePath}, warm`, () => makeOciTestHost({ ...host, warm }), { hasNetwork });
  }
});
