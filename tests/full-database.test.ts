import assert from "node:assert/strict";
import { mkdir, mkdtemp, open, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite, test } from "node:test";
import { mountFileSystem, unmount } from "@caisson/linux";
import { testTimeoutMs } from "@caisson/linux/testing";
import { TestClient } from "./support/client.ts";
import { TestServer } from "./support/server.ts";

const BALLAST_BYTES = 16 * 2 ** 20;

suite("a full database", { timeout: testTimeoutMs(900_000) }, () => {
  test("refuses changes, takes back nothing that was acknowledged, and goes on when there is room, without a restart", async () => {
    const directory = await mkdtemp(join(tmpdir(), "caisson-full-"));
    const database = join(directory, "database");
    await mkdir(database, { mode: 0o700 });
    await mountFileSystem({ type: "tmpfs", source: "tmpfs", target: database, options: "size=12m,mode=700" });
    const server = await TestServer.start({ dataDirectory: directory });
    try {
      Object.assign(process.env, server.clientEnv());
      const client = new TestClient(server);
      await client.createVolume("kept");
      await client.with({ volumes: { "/v": "kept" } }, (sandbox) => sandbox.fs.writeTextFile("/v/file", "kept"));

      const ballast = join(database, "ballast");
      await fill(ballast);
      const outcomes: string[] = [];
      // The last pages of the write-ahead log may still take one change; then nothing goes any more.
      for (let attempt = 0; attempt < 20 && outcomes.at(-1) !== "507"; attempt += 1) {
        const json = { slug: `more-${attempt}`, region: "ord", capacity: "300MB" };
        outcomes.push(String((await server.request("/api/v2/volumes", { method: "POST", json })).status));
      }
      assert.equal(outcomes.at(-1), "507", outcomes.join(" "));
      const refused = `more-${outcomes.length - 1}`;
      assert.equal((await client.refused("DELETE", "/api/v2/volumes/kept"))[0], "507 STORAGE_FULL");

      await rm(ballast);
      await client.createVolume(refused);
      assert.equal(
        await client.with({ volumes: { "/v": "kept" } }, (sandbox) => sandbox.fs.readTextFile("/v/file")),
        "kept",
      );
      for (const [attempt, status] of outcomes.entries()) {
        const found = await server.request(`/api/v2/volumes/more-${attempt}`);
        assert.equal(found.status, attempt === outcomes.length - 1 || status === "200" ? 200 : 404);
      }
      await server.stop();
      await server.start();
      assert.doesNotMatch(server.logText(), /the database does not know|missing from the pool/);
    } finally {
      await server.stop();
      await unmount(database);
      await server[Symbol.asyncDispose]();
    }
  });
});

/** Writes until nothing fits any more. */
async function fill(path: string): Promise<void> {
  await using file = await open(path, "w");
  for (const size of [64 * 1024, 4096]) {
    const chunk = Buffer.alloc(size, 1);
    for (let written = 0; written < BALLAST_BYTES; written += size) {
      const isWritten = await file.write(chunk).then(
        ({ bytesWritten }) => bytesWritten === size,
        (error: unknown) => {
          if (error instanceof Error && "code" in error && error.code === "ENOSPC") return false;
          throw error;
        },
      );
      if (!isWritten) break;
    }
  }
}
