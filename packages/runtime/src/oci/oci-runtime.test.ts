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

  for (const runtimePath of ["crun", "runc"]) {
    describeRuntimeConformance(runtimePath, () =>
      makeOciTestHost({ runtimePath, network: { nameServers: [WORLD.silentResolver, WORLD.resolver] } }),
    );
  }
});
