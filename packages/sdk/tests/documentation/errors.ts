// Errors: failing commands, missing files, refused requests, wrong options and tokens.
import assert from "node:assert/strict";
import {
  ApiError,
  Client,
  ConnectionEstablishmentError,
  InvalidMemoryError,
  InvalidTimeoutError,
  InvalidTokenError,
  Sandbox,
  SandboxCommandError,
} from "@deno/sandbox";

await using sandbox = await Sandbox.create();
try {
  await sandbox.sh`exit 42`;
} catch (error) {
  if (error instanceof SandboxCommandError) console.log("Exit code:", error.code);
}
const result = await sandbox.sh`exit 1`.noThrow();
assert.deepEqual([result.status.code, result.status.success], [1, false]);

const missing = await sandbox.fs.readTextFile("missing.txt").catch((error: Error & { code?: string }) => error);
assert.ok(missing instanceof Error);
assert.equal(missing.code, "ENOENT");

const client = new Client();
const refused = await client.volumes
  .create({ slug: "-bad-", region: "ord", capacity: "1GB" })
  .catch((error: unknown) => error);
assert.ok(refused instanceof ApiError);
assert.deepEqual([refused.status, refused.code], [400, "INVALID_SLUG"]);
assert.equal(typeof refused.traceId, "string");

const unknown = await Sandbox.create({ root: "no-such-volume" }).catch((error: unknown) => error);
assert.ok(unknown instanceof ConnectionEstablishmentError);
assert.equal(unknown.status, 404);
await assert.rejects(Sandbox.create({ token: "ddo_wrong" }), (error) => error instanceof InvalidTokenError);
await assert.rejects(Sandbox.create({ memory: "1MiB" }), (error) => error instanceof InvalidMemoryError);
await assert.rejects(Sandbox.create({ timeout: "0s" }), (error) => error instanceof InvalidTimeoutError);
