import assert from "node:assert/strict";
import { test } from "node:test";
import { CaissonError } from "@caisson/model";
import { decodeSandboxConfig, MAX_LIFETIME_MS } from "./sandbox-config.ts";

const NOW_MS = 1_795_446_041_422;

/** As JavaScript sends it: each character 0 to 255 is one byte. */
function fromJavaScript(config: unknown): string {
  return Buffer.from(JSON.stringify(config), "latin1").toString("base64");
}

/** As Python sends it: ASCII with \u escapes. */
function fromPython(config: unknown): string {
  const text = JSON.stringify(config).replace(/[\u0080-\uffff]/g, (character) => {
    return `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`;
  });
  return Buffer.from(text, "ascii").toString("base64");
}

function decode(config: unknown) {
  return decodeSandboxConfig(fromJavaScript(config), NOW_MS);
}

function refuses(code: string, message: RegExp, config: unknown): void {
  assert.throws(
    () => decode(config),
    (error) => error instanceof CaissonError && error.code === code && message.test(error.message),
  );
}

test("the dialect of the JavaScript client is understood, Latin-1 included", () => {
  const config = decodeSandboxConfig(
    fromJavaScript({
      stop_at_ms: NOW_MS + 60_000,
      memory_mb: 1280,
      labels: { job: "café" },
      root: { volume: "my-root" },
      volumes: [{ volume: "cache", path: "/data" }],
      allow_net: ["example.com", "*.deno.dev:443"],
      secrets: { API_KEY: { hosts: ["api.example.com"], value: "real" } },
    }),
    NOW_MS,
  );
  assert.deepEqual(config, {
    memoryMb: 1280,
    stopAtMs: NOW_MS + 60_000,
    labels: { job: "café" },
    root: "my-root",
    volumes: [{ path: "/data", volume: "cache", isReadOnly: false }],
    allowNet: [
      { kind: "host", host: "example.com", port: null },
      { kind: "subdomains", host: "deno.dev", port: 443 },
    ],
    secrets: [{ name: "API_KEY", value: "real", hosts: ["api.example.com"] }],
    env: {},
    hostname: null,
    region: null,
    ssh: false,
    port: null,
  });
});

test("the dialect of the Python client is understood, escapes included", () => {
  const config = decodeSandboxConfig(
    fromPython({
      memory_mb: 2048,
      debug: false,
      region: "ord",
      env: { A: "žluť" },
      timeout: "5m",
      ssh: true,
      port: 8000,
      root: { volume: "my-root" },
      volumes: { "/data": "cache" },
      allow_net: ["example.com"],
    }),
    NOW_MS,
  );
  assert.equal(config.memoryMb, 2048);
  assert.equal(config.stopAtMs, NOW_MS + 300_000);
  assert.deepEqual(config.env, { A: "žluť" });
  assert.equal(config.region, "ord");
  assert.deepEqual(config.volumes, [{ path: "/data", volume: "cache", isReadOnly: false }]);
  assert.equal(config.ssh, true);
  assert.equal(config.port, 8000);
});

test("what is absent or null takes its default, and unknown keys are ignored", () => {
  const defaults = decode({});
  assert.equal(defaults.memoryMb, 1280);
  assert.equal(defaults.stopAtMs, null);
  assert.equal(defaults.allowNet, null);
  assert.deepEqual(defaults.volumes, []);
  const nulls = { memory_mb: null, labels: null, root: null, volumes: null, allow_net: null, secrets: null, env: null };
  assert.equal(defaults.hostname, null);
  assert.deepEqual(
    decode({ ...nulls, region: null, timeout: null, stop_at_ms: null, ssh: null, port: null, hostname: null, x: [1] }),
    defaults,
  );
});

test("a host name has letters, digits, hyphens and dots, and is none that every machine has", () => {
  for (const hostname of ["db", "Db-1.example", "a".repeat(63)]) assert.equal(decode({ hostname }).hostname, hostname);
  for (const hostname of [
    "",
    "a b",
    "-a",
    "a-",
    "a..b",
    "a_b",
    "1.2",
    "localhost",
    "LOCALHOST",
    "a".repeat(64),
    "ä",
    7,
    "a\nb",
  ]) {
    assert.throws(
      () => decode({ hostname }),
      /"hostname" is .*: give a host name: at most 63 letters/,
      String(hostname),
    );
  }
});

test("an empty allow list allows nothing, which differs from none", () => {
  assert.deepEqual(decode({ allow_net: [] }).allowNet, []);
});

test("volumes are sorted so that a mount below another comes after it, and read_only is understood in both dialects", () => {
  const list = decode({
    volumes: [
      { volume: "b", path: "/data/inner/" },
      { volume: "a", path: "//data/.", read_only: true },
    ],
  });
  const map = decode({ volumes: { "/data/inner": { volume: "b" }, "/data": { volume: "a", read_only: true } } });
  assert.deepEqual(list.volumes, [
    { path: "/data", volume: "a", isReadOnly: true },
    { path: "/data/inner", volume: "b", isReadOnly: false },
  ]);
  assert.deepEqual(map.volumes, list.volumes);
});

test("a lifetime beyond 30 minutes is clamped, and a session has no end", () => {
  assert.equal(decode({ stop_at_ms: NOW_MS + 2 * MAX_LIFETIME_MS }).stopAtMs, NOW_MS + MAX_LIFETIME_MS);
  assert.equal(decode({ timeout: "120m" }).stopAtMs, NOW_MS + MAX_LIFETIME_MS);
  assert.equal(decode({ timeout: "90s" }).stopAtMs, NOW_MS + 90_000);
  assert.equal(decode({ timeout: "session" }).stopAtMs, null);
});

test("a mistake in the options is refused with the code and the name of the option", () => {
  refuses("INVALID_CONFIG", /past/, { stop_at_ms: NOW_MS });
  refuses("INVALID_CONFIG", /stop_at_ms/, { stop_at_ms: "soon" });
  refuses("INVALID_CONFIG", /duration "1h"/, { timeout: "1h" });
  refuses("INVALID_CONFIG", /only one/, { timeout: "1m", stop_at_ms: NOW_MS + 1 });
  refuses("INVALID_MEMORY", /768 to 4096/, { memory_mb: 767 });
  refuses("INVALID_MEMORY", /4097/, { memory_mb: 4097 });
  refuses("INVALID_MEMORY", /1280\.5/, { memory_mb: 1280.5 });
  refuses("INVALID_LABELS", /at most 5/, { labels: { a: "", b: "", c: "", d: "", e: "", f: "" } });
  refuses("INVALID_CONFIG", /root/, { root: "my-root" });
  refuses("INVALID_CONFIG", /allow_net/, { allow_net: "example.com" });
  refuses("INVALID_CONFIG", /"env"/, { env: ["A=1"] });
  refuses("INVALID_CONFIG", /"A=B"/, { env: { "A=B": "1" } });
  refuses("INVALID_CONFIG", /"A"/, { env: { A: 1 } });
  const longest = "x".repeat(128 * 1024 - "A=".length - 1);
  assert.equal(decode({ env: { A: longest } }).env.A, longest);
  refuses("INVALID_CONFIG", /"A" in "env" has 131072 bytes.*at most 131071.*file/, { env: { A: `${longest}x` } });
  refuses("INVALID_CONFIG", /"env" take \d+ bytes with their ends and pointers, at most 1048576/, {
    env: Object.fromEntries(Array.from({ length: 11 }, (_, index) => [`V${index}`, "x".repeat(100_000)])),
  });
  refuses("INVALID_CONFIG", /port/, { port: 70_000 });
  refuses("INVALID_CONFIG", /ssh/, { ssh: "yes" });
  refuses("INVALID_CONFIG", /region/, { region: 1 });
});

test("a mount path that could reach outside or break the sandbox is refused", () => {
  const paths = [
    "data",
    "/data/../etc",
    "/",
    "//.",
    "/proc",
    "/proc/self",
    "/sys/fs",
    "/dev",
    "/data\0",
    `/${"a".repeat(256)}`,
  ];
  for (const path of paths) refuses("INVALID_CONFIG", /volume|mount path/, { volumes: { [path]: "cache" } });
  refuses("INVALID_CONFIG", /two volumes/, {
    volumes: [
      { volume: "a", path: "/d" },
      { volume: "b", path: "/d/" },
    ],
  });
  refuses("INVALID_CONFIG", /id or slug/, { volumes: [{ path: "/d" }] });
  refuses("INVALID_CONFIG", /read_only/, { volumes: [{ path: "/d", volume: "a", read_only: "yes" }] });
  refuses("INVALID_CONFIG", /volumes/, { volumes: "cache" });
});

test("a secret needs hosts and a value, and its value is not repeated in the error", () => {
  refuses("INVALID_CONFIG", /hosts/, { secrets: { KEY: { hosts: [], value: "hush" } } });
  refuses("INVALID_CONFIG", /hosts/, { secrets: { KEY: { hosts: ["a b"], value: "hush" } } });
  refuses("INVALID_CONFIG", /value/, { secrets: { KEY: { hosts: ["example.com"] } } });
  refuses("INVALID_CONFIG", /^(?!.*hush)/, { secrets: { "K=": { hosts: ["example.com"], value: "hush" } } });
});

test("a header that is missing, not base64, not JSON or not an object is refused", () => {
  const base64 = (text: string) => Buffer.from(text).toString("base64");
  for (const header of [undefined, "", "{}", "e30", base64("nonsense"), base64("[]"), base64("null"), base64('"x"')]) {
    assert.throws(() => decodeSandboxConfig(header, NOW_MS), { code: "INVALID_CONFIG" }, String(header));
  }
});

test("a key named __proto__ stays an ordinary key", () => {
  const header = Buffer.from('{"env":{"__proto__":"x"},"volumes":{"/d":"a"}}').toString("base64");
  const { env } = decodeSandboxConfig(header, NOW_MS);
  assert.deepEqual(Object.entries(env), [["__proto__", "x"]]);
  assert.equal(Object.getPrototypeOf(env), Object.prototype);
});
