// Environment variables: at creation, afterwards, and as commands see them.
import assert from "node:assert/strict";
import { Sandbox } from "@deno/sandbox";

await using sandbox = await Sandbox.create({ env: { GREETING: "hello" } });
await sandbox.env.set("API_KEY", "secret-key-123");
console.log((await sandbox.sh`echo $GREETING $API_KEY`.text()).trim());
assert.equal(await sandbox.env.get("API_KEY"), "secret-key-123");
assert.equal((await sandbox.env.toObject()).GREETING, "hello");
await sandbox.env.delete("API_KEY");
assert.equal(await sandbox.env.get("API_KEY"), undefined);
assert.equal(await sandbox.sh`printf %s "$ONCE"`.env("ONCE", "1").text(), "1");
