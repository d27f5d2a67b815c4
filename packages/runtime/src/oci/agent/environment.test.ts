import assert from "node:assert/strict";
import { test } from "node:test";
import { agentEnvironment } from "./environment.ts";

test("variables of a sandbox cannot tell its agent to empty a directory or to wait for a configuration", () => {
  const sandbox = { CAISSON_AGENT_CLEAR: "/home", CAISSON_AGENT_REHEARSE: "/bin/true" };
  const told = agentEnvironment(sandbox, 2 ** 30, null).filter((line) =>
    /^CAISSON_AGENT_(?:CLEAR|REHEARSE)=/.test(line),
  );
  assert.deepEqual(told.sort(), ["CAISSON_AGENT_CLEAR=", "CAISSON_AGENT_REHEARSE="]);
});
