import assert from "node:assert/strict";
import { stat } from "node:fs/promises";
import { join } from "node:path";
import { suite, test } from "node:test";
import { testTimeoutMs } from "@caisson/linux/testing";
import { Sandbox } from "@deno/sandbox";
import { shell, TestClient } from "./support/client.ts";
import { TestServer } from "./support/server.ts";

suite("server", { timeout: testTimeoutMs(120_000) }, () => {
  test("ends cleanly on SIGTERM while clients are connected, and releases what they hold", async () => {
    await using server = await TestServer.start();
    Object.assign(process.env, server.clientEnv());
    const client = new TestClient(server);
    await client.createVolume("kept");
    const sandbox = await Sandbox.create({ volumes: { "/v": "kept" }, timeout: "60s" });
    await shell(sandbox, "echo kept > /v/file");
    assert.equal(await server.stop(), 0);
    await server.start();
    Object.assign(process.env, server.clientEnv());
    assert.equal((await client.rest("GET", `/api/v3/sandbox/${sandbox.id}`)).stopReason, "server-stopped");
    await client.with({ volumes: { "/v": "kept" } }, async (next) =>
      assert.equal(await shell(next, "cat /v/file"), "kept"),
    );
    await sandbox.close();
  });

  test("keeps a second server away from its data, and its secrets from other users", async () => {
    await using server = await TestServer.start();
    await assert.rejects(
      TestServer.start({ dataDirectory: server.dataDirectory }),
      /Another server uses the data directory/,
    );
    for (const [name, mode] of [
      ["credentials.json", 0o600],
      ["database", 0o700],
      ["regions/ord/pool", 0o700],
    ] as const) {
      assert.equal((await stat(join(server.dataDirectory, name))).mode & 0o777, mode, name);
    }
  });

  test("answers without a token only where that is meant, and names every answer", async () => {
    await using server = await TestServer.start();
    const statusOf = async (path: string) => (await fetch(new URL(path, server.endpoint))).status;
    assert.deepEqual([await statusOf("/health"), await statusOf("/openapi.json")], [200, 200]);
    const { paths } = (await (await fetch(new URL("/openapi.json", server.endpoint))).json()) as {
      paths: Record<string, Record<string, unknown>>;
    };
    const open = new Set<string>();
    for (const [path, methods] of Object.entries(paths)) {
      for (const method of Object.keys(methods)) {
        const response = await fetch(new URL(path.replaceAll(/\{\w+\}/g, "x"), server.endpoint), {
          method: method.toUpperCase(),
        });
        if (response.status !== 401) open.add(`${method} ${path}`);
        assert.match(response.headers.get("x-deno-trace-id") ?? "", /^[0-9a-f-]{36}$/);
      }
    }
    assert.deepEqual([...open], ["get /health"]);
  });
});
