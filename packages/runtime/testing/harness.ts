import assert from "node:assert/strict";
import { newId } from "@caisson/model";
import type { RootSpec, RunningSandbox, SandboxRuntime, SandboxSpec } from "../src/runtime.ts";

/** What one run of the suite has to itself, with real roots. Its agent offers `POST /run`, which runs a shell script. */
export interface TestHost {
  /** Opens the runtime; what an earlier one left is there. The suite closes it before it opens the next. */
  open(): Promise<SandboxRuntime>;
  /** Whether sandboxes start warm when the host has settled. */
  readonly isWarm: boolean;
  /** What its cgroups have in their names. */
  readonly instance: string;
  /** What the runtime has warned of. */
  readonly warnings: readonly string[];
  /** Resolves when the runtime is ready for a start as fast as it can be. */
  settle(): Promise<void>;
  /** The read-only mounted root under every ephemeral one. */
  readonly lowerPath: string;
  newRoot(kind: RootSpec["kind"]): Promise<RootSpec>;
  /** An empty directory for a data mount. */
  newDirectory(): Promise<string>;
  /** A command that opens the same runtime in a process of its own, starts the sandbox of its last argument and prints `started`. */
  readonly crashCommand: readonly string[];
  /** What is on the host for sandboxes: nothing, when none is running. */
  findDebris(): Promise<readonly string[]>;
  /** Removes everything. Fails when anything of it is left on the host. */
  dispose(): Promise<void>;
}

/** What the parts of the suite share. */
export interface Harness {
  readonly host: TestHost;
  readonly runtime: SandboxRuntime;
  /** Starts a sandbox with an ephemeral root and modest limits, if nothing else is said. */
  start(overrides?: Partial<SandboxSpec>): Promise<RunningSandbox>;
  /** Starts one, runs the work and stops it. */
  with<T>(overrides: Partial<SandboxSpec>, work: (sandbox: RunningSandbox) => Promise<T>): Promise<T>;
  newSpec(overrides?: Partial<SandboxSpec>): Promise<SandboxSpec>;
}

const MIB = 2 ** 20;
export const MODEST_MEMORY_BYTES = 768 * MIB;

export function makeHarness(host: TestHost, runtime: SandboxRuntime): Harness {
  const newSpec = async (overrides: Partial<SandboxSpec> = {}): Promise<SandboxSpec> => ({
    id: newId("sbx", "ord"),
    root: overrides.root ?? (await host.newRoot("ephemeral")),
    mounts: [],
    limits: { memoryBytes: MODEST_MEMORY_BYTES, cpuCount: 2, pidsMax: 256, terminalsMax: 8 },
    env: {},
    ...overrides,
  });
  const start = async (overrides?: Partial<SandboxSpec>): Promise<RunningSandbox> => {
    await host.settle();
    const sandbox = await runtime.start(await newSpec(overrides));
    const isWarm = sandbox.trace.some(({ step }) => step === "adopt");
    if (isWarm !== host.isWarm) await runtime.release(sandbox.id);
    assert.equal(isWarm, host.isWarm, `the start was ${isWarm ? "warm" : "cold"}: ${host.warnings.join("\n")}`);
    return sandbox;
  };
  return {
    host,
    runtime,
    newSpec,
    start,
    async with(overrides, work) {
      const sandbox = await start(overrides);
      try {
        return await work(sandbox);
      } finally {
        await runtime.release(sandbox.id);
      }
    },
  };
}
