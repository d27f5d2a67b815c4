import assert from "node:assert/strict";
import { test } from "node:test";
import { decodeSandboxConfig } from "@caisson/protocol";
import { createConfig } from "./create-config.ts";
import type { SandboxOptions } from "./options.ts";

function decode(options: SandboxOptions): Record<string, unknown> {
  return JSON.parse(Buffer.from(createConfig(options).header, "base64").toString("latin1"));
}

test("without options a session of the default size is asked for", () => {
  const { header, isSession, hasVolumes } = createConfig({});
  assert.deepEqual(decode({}), { region: "ord", memory_mb: 1280, volumes: [], env: {} });
  assert.deepEqual([isSession, hasVolumes], [true, false]);
  assert.equal(decodeSandboxConfig(header, Date.now()).memoryMb, 1280);
});

test("every option is written as the server reads it", () => {
  const options: SandboxOptions = {
    region: "ams",
    memory: "2GiB",
    timeout: "5m",
    labels: { job: "x" },
    root: "my-root",
    volumes: { "/data": "cache", "/models": { volume: "models", readOnly: true }, "/rw": { volume: "rw" } },
    allowNet: ["example.com"],
    hostname: "db.example",
    secrets: { KEY: { hosts: ["api.example.com"], value: "real" } },
    env: { MY_VAR: "Grüße, 世界 🌍" },
  };
  assert.deepEqual(decode(options), {
    region: "ams",
    memory_mb: 2048,
    timeout: "300s",
    labels: { job: "x" },
    root: { volume: "my-root" },
    volumes: [
      { volume: "cache", path: "/data" },
      { volume: "models", path: "/models", read_only: true },
      { volume: "rw", path: "/rw" },
    ],
    allow_net: ["example.com"],
    hostname: "db.example",
    secrets: { KEY: { hosts: ["api.example.com"], value: "real" } },
    env: { MY_VAR: "Grüße, 世界 🌍" },
  });
  const config = decodeSandboxConfig(createConfig(options).header, Date.now());
  assert.equal(config.hostname, "db.example");
  assert.equal(config.env.MY_VAR, "Grüße, 世界 🌍");
  assert.deepEqual(
    config.volumes.map(({ path, isReadOnly }) => [path, isReadOnly]),
    [
      ["/data", false],
      ["/models", true],
      ["/rw", false],
    ],
  );
});

test("an environment that is too large for a header is set after connecting", () => {
  const env = { LARGE: "x".repeat(60_000) };
  const { header, lateEnv } = createConfig({ env });
  assert.ok(header.length < 1000);
  assert.deepEqual(lateEnv, env);
  assert.deepEqual(createConfig({ env: { SMALL: "x" } }).lateEnv, {});
});

test("memory and lifetime are checked before anything is sent", () => {
  for (const memory of [0, 1024, "100MiB", "5GiB", "1 parsec", -1, Number.NaN]) {
    assert.throws(() => createConfig({ memory: memory as "1GiB" }), { name: "InvalidMemoryError" }, String(memory));
  }
  assert.equal(decode({ memory: 768 * 2 ** 20 }).memory_mb, 768);
  assert.equal(decode({ memory: "1GB" }).memory_mb, 953);
  for (const timeout of ["0s", "1h", "-1m", "5", "m", "1.5m", ""]) {
    assert.throws(() => createConfig({ timeout: timeout as "1m" }), { name: "InvalidTimeoutError" }, timeout);
  }
});
