import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { testTimeoutMs } from "@caisson/linux/testing";
import type { Sandbox } from "@deno/sandbox";
import { shell, TestClient } from "./support/client.ts";
import { TestServer } from "./support/server.ts";

suite("a full pool", { timeout: testTimeoutMs(300_000) }, () => {
  test("refuses what needs room, damages nothing, and has room again when something is deleted", async () => {
    await using server = await TestServer.start({
      settings: '[pool]\nsize = "3GiB"\n[volumes]\nretention_hours = 0\n',
    });
    Object.assign(process.env, server.clientEnv());
    const client = new TestClient(server);
    await client.createVolume("kept");
    await client.with({ volumes: { "/v": "kept" } }, (sandbox) =>
      shell(sandbox, "head -c 20M /dev/urandom > /v/data; sync; cd /v; sha256sum data > sum"),
    );
    await client.createVolume("hog", { capacity: "10GB" });
    await client.with({ volumes: { "/v": "hog", "/k": "kept" } }, async (sandbox) => {
      const child = await sandbox.spawn("sh", {
        args: ["-c", "head -c 5G /dev/urandom > /v/fill; sync /v/fill; echo $?"],
        stdout: "piped",
        stderr: "piped",
      });
      const { stdoutText, stderrText } = await child.output();
      assert.match(`${stdoutText}${stderrText}`, /No space left on device|Input\/output error|Read-only file system/);
      // What was written before the pool was full is whole.
      assert.match(await shell(sandbox, "cd /k; sha256sum -c sum"), /OK/);
    });
    assert.deepEqual(
      (await client.refused("POST", "/api/v2/volumes", { slug: "more", region: "ord", capacity: "300MB" }))[0],
      "507 STORAGE_FULL",
    );
    assert.deepEqual(await client.rest("GET", "/api/v2/volumes?search=more"), []);

    await client.rest("DELETE", "/api/v2/volumes/hog");
    await server.stop();
    await server.start();
    Object.assign(process.env, server.clientEnv());
    await client.createVolume("more");
    await client.with({ volumes: { "/v": "kept", "/m": "more" } }, async (sandbox: Sandbox) => {
      assert.match(await shell(sandbox, "cd /v; sha256sum -c sum && head -c 200M /dev/urandom > /m/x && sync"), /OK/);
    });
  });
});
