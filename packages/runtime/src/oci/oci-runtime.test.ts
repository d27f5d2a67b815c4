import { after, before, suite } from "node:test";
import { describeRuntimeConformance } from "../conformance.ts";
import { TestInternet, WORLD } from "../test-internet.ts";
import { isInPrivateNetwork } from "../test-private-network.ts";
import { makeOciTestHost } from "./test-host.ts";

suite("OCI runtime", () => {
  if (!isInPrivateNetwork(import.meta.filename)) return;
  let internet: TestInternet;
  before(async () => {
    internet = await TestInternet.start();
  });
  after(() => internet[Symbol.asyncDispose]());

  for (const runtimePath of ["crun", "runc"]) {
    describeRuntimeConformance(runtimePath, () =>
      makeOciTestHost({ runtimePath, network: { nameServers: [WORLD.resolver] } }),
    );
  }
});
