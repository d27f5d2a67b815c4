import { after, before, suite } from "node:test";
import { describeRuntimeConformance } from "./conformance.ts";
import { makeOciTestHost } from "./test-host.ts";
import { TestInternet, WORLD } from "./test-internet.ts";
import { isInPrivateNetwork } from "./test-private-network.ts";

/** The conformance suite on one OCI runtime. Each of the four pairs is a file of its own, so that they run side by side and a part of them can be run again. */
export function describeOciRuntime(
  file: string,
  { runtimePath, isWarm }: { readonly runtimePath: "crun" | "runc"; readonly isWarm: boolean },
): void {
  suite("OCI runtime", () => {
    if (!isInPrivateNetwork(file)) return;
    let internet: TestInternet;
    before(async () => {
      internet = await TestInternet.start();
    });
    after(() => internet[Symbol.asyncDispose]());

    const isRunc = runtimePath === "runc";
    const network = { nameServers: [WORLD.silentResolver, WORLD.resolver] };
    // One runtime adopts containers as the kernel is, and the other in the way that every kernel has.
    const warm = isWarm ? { warm: { count: 1, ...(isRunc && { isPortable: true }) } } : {};
    // The network is made before the OCI runtime is asked for anything, so one of them is enough.
    describeRuntimeConformance(
      `${runtimePath}, ${isWarm ? "warm" : "cold"}`,
      () => makeOciTestHost({ runtimePath, network, ...warm }),
      { hasNetwork: !isRunc },
    );
  });
}
