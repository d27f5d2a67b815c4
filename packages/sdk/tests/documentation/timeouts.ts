// Timeouts: a sandbox that outlives its connection, reconnecting, extending and ending it.
import assert from "node:assert/strict";
import { Client, Sandbox } from "@deno/sandbox";

const sandbox = await Sandbox.create({ timeout: "5m", labels: { example: "timeouts" }, memory: "1GiB" });
const id = sandbox.id;
await sandbox.close();

const reconnected = await Sandbox.connect(id);
console.log((await reconnected.sh`echo 'Still alive!'`.text()).trim());
const end = await reconnected.extendTimeout("10m");
assert.ok(end instanceof Date && end.getTime() > Date.now() + 9 * 60_000);

const [listed] = await new Client().sandboxes.list({ labels: { example: "timeouts" } });
assert.equal(listed?.id, id);
assert.equal(listed?.status, "running");
assert.ok(listed?.createdAt instanceof Date);

await reconnected.kill();
await assert.rejects(Sandbox.connect({ id }));
