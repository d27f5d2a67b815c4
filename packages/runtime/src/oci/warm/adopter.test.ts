import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { Adopter } from "./adopter.ts";
import type { Adoption } from "./adoption.ts";

/** Fails before the thread enters anything, by what it says of the agent's directory. */
function failing(agentRun: number): Adoption {
  return {
    mountNamespace: -1,
    utsNamespace: -1,
    userNamespace: -1,
    agentRun,
    ownerId: 0x6fff0000,
    cgroup: [],
    processIds: [],
    limits: { memoryBytes: 2 ** 30, cpuCount: 1, pidsMax: 1, terminalsMax: 1 },
    hostname: "host",
    root: { kind: "persistent", path: "/nowhere" },
    ownFiles: [{ name: "hosts", path: "/etc/hosts", content: "" }],
    certificates: null,
    mounts: [],
    lowerPath: null,
  };
}

suite("adopter", () => {
  test("a container that fails to become a sandbox takes no other with it, and whose turn has not come waits for the next thread", async () => {
    await using adopter = new Adopter();
    const numbers = [1001, 1002, 1003, 1004];
    const answers = await Promise.allSettled(numbers.map((number) => adopter.adopt(failing(number))));
    const reasons = answers.map((answer) => (answer.status === "rejected" ? String(answer.reason) : "resolved"));
    for (const [index, number] of numbers.entries())
      assert.match(reasons[index] ?? "", new RegExp(`ENOENT.*/proc/self/fd/${number}/hosts`));
  });
});
