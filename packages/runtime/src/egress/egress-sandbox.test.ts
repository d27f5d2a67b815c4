import assert from "node:assert/strict";
import { after, before, suite, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { runTool } from "@caisson/linux";
import { testTimeoutMs } from "@caisson/linux/testing";
import { isInPrivateNetwork } from "../../testing/test-private-network.ts";
import { ruleset } from "../network/ruleset.ts";
import type { EgressPolicy } from "../runtime.ts";
import { EgressSandbox } from "./egress-sandbox.ts";

const TABLE = "egress_test";
const ADDRESS = "10.1.1.2";
const TARGET = "203.0.113.10";
const DEADLINE_MS = testTimeoutMs(20_000);
const POLICY: EgressPolicy = {
  allow: [
    { kind: "ipv4", host: "192.0.2.1", port: null },
    { kind: "ipv4", host: "192.0.2.2", port: 22 },
    { kind: "host", host: "a.test", port: 443 },
  ],
  secrets: [],
};

interface Element {
  readonly elem?: { readonly val: { readonly concat: readonly unknown[] }; readonly expires?: number };
}

async function elements(set: string): Promise<readonly Element[]> {
  const listed = JSON.parse(await runTool("nft", ["--json", "list", "set", "inet", TABLE, set])) as {
    readonly nftables: readonly { readonly set?: { readonly elem?: readonly Element[] } }[];
  };
  return listed.nftables.flatMap((entry) => entry.set?.elem ?? []);
}

suite("policy of a sandbox in the kernel", () => {
  if (!isInPrivateNetwork(import.meta.filename)) return;

  before(async () => {
    const input = ruleset({
      table: TABLE,
      interfacePrefix: "csntest",
      commonPrefix: "csn",
      networks: ["10.1.1.0/24"],
      nameServers: new Map(),
      blockedNetworks: ["127.0.0.0/8"],
    });
    await runTool("nft", ["-f", "-"], { input });
  });
  after(async () => {
    await runTool("nft", ["delete", "table", "inet", TABLE]);
  });

  test("a grant ends by itself after its time", async () => {
    await using sandbox = new EgressSandbox(TABLE, ADDRESS, POLICY);
    await sandbox.restrict();
    await sandbox.grant([TARGET], [443], 0, 1);
    assert.equal((await elements("granted_services")).length, 1);
    const deadline = Date.now() + DEADLINE_MS;
    while ((await elements("granted_services")).length > 0) {
      assert.ok(Date.now() < deadline, "the grant has not ended");
      await delay(100);
    }
  });

  test("a grant lasts at least the time to live and the minimum, and asking again renews it when it is due", async () => {
    await using sandbox = new EgressSandbox(TABLE, ADDRESS, POLICY);
    await sandbox.restrict();
    const expiry = async (): Promise<number> => (await elements("granted_hosts"))[0]?.elem?.expires ?? 0;
    await sandbox.grant([TARGET], "any", 1, 300);
    const first = await expiry();
    assert.ok(first > 290 && first <= 300, String(first));
    await sandbox.grant([TARGET], "any", 100, 300);
    assert.ok((await expiry()) <= first, "long enough already");
    await sandbox.grant([TARGET], "any", 3600, 300);
    assert.ok((await expiry()) >= 3600);
  });

  test("releasing takes everything back, also what has ended already, and can be repeated", async () => {
    const sandbox = new EgressSandbox(TABLE, ADDRESS, POLICY);
    await sandbox.restrict();
    await sandbox.grant([TARGET], "any", 60, 300);
    await sandbox.grant([TARGET], [80], 60, 300);
    assert.deepEqual(
      await Promise.all(
        ["restricted", "allowed_hosts", "allowed_services"].map(async (set) => (await elements(set)).length),
      ),
      [1, 1, 1],
    );
    await runTool("nft", ["delete", "element", "inet", TABLE, "granted_hosts", `{ ${ADDRESS} . ${TARGET} }`]);
    await sandbox[Symbol.asyncDispose]();
    await sandbox[Symbol.asyncDispose]();
    for (const set of ["restricted", "allowed_hosts", "allowed_services", "granted_hosts", "granted_services"]) {
      assert.deepEqual(await elements(set), [], set);
    }
    await assert.rejects(sandbox.grant([TARGET], "any", 60, 300), /has ended/);
  });

  test("a sandbox cannot fill the table: its grants are bounded", async () => {
    await using sandbox = new EgressSandbox(TABLE, ADDRESS, POLICY);
    await sandbox.restrict();
    const targets = Array.from({ length: 2048 }, (_, index) => `203.0.${index >> 8}.${index & 255}`);
    await sandbox.grant(targets, "any", 60, 300);
    await assert.rejects(sandbox.grant(["198.51.100.1"], "any", 60, 300), /2048/);
  });
});
