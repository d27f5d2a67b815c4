import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { TestAgent } from "../testing/test-agent.ts";

/** So many that moving them out of the way takes longer than the agent takes no notice of rejections: that is 150 ms after its start. */
const ENTRIES = 30_000;

test("an agent that cannot listen ends, and says why, however late that is", async () => {
  const directory = await mkdtemp(join(tmpdir(), "caisson-agent-"));
  try {
    const old = join(directory, "old");
    await mkdir(old);
    for (let index = 0; index < ENTRIES; index += 1) await symlink("nowhere", join(old, String(index)));
    const env = { CAISSON_AGENT_SOCKET: join(directory, "missing", "agent.sock"), CAISSON_AGENT_CLEAR: old };
    await assert.rejects(TestAgent.start({ env }), /The start failed: .*(?:No such file|os error 2)/);
  } finally {
    await rm(directory, { recursive: true });
  }
});
