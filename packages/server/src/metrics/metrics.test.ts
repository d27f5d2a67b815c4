import assert from "node:assert/strict";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { connect, createServer } from "node:net";
import { join } from "node:path";
import { test } from "node:test";
import { STOP_REASONS } from "@caisson/model";
import { EventLoopWatch } from "./event-loop.ts";
import { Metrics } from "./metrics.ts";

const value = (text: string, series: string): number => {
  const line = text.split("\n").find((one) => one.startsWith(`${series} `));
  return Number(line?.slice(series.length));
};

test("a block of the event loop is told with its length, and a loop without work has none", async () => {
  using watch = new EventLoopWatch();
  const pause = () => new Promise((resolve) => setTimeout(resolve, 100));
  await pause();
  const untilMs = performance.now() + 300;
  while (performance.now() < untilMs);
  await pause();
  const longest = watch.delaySeconds(1);
  assert.ok(longest >= 0.28, `${longest} s`);
  assert.ok(watch.delaySeconds(0.5) < longest);
});

test("series exist before their first event, so that the first one can be seen", async () => {
  using metrics = new Metrics();
  const before = await metrics.text();
  for (const reason of STOP_REASONS)
    assert.equal(value(before, `caisson_sandboxes_ended_total{reason="${reason}"}`), 0);
  assert.equal(value(before, "caisson_volume_damages_total"), 0);
  metrics.countEnd("timeout");
  metrics.countCreate(60);
  metrics.countFailedCreate("SERVER_FULL");
  const after = await metrics.text();
  assert.equal(value(after, 'caisson_sandboxes_ended_total{reason="timeout"}'), 1);
  assert.equal(value(after, 'caisson_sandbox_creates_total{outcome="SERVER_FULL"}'), 1);
  assert.equal(value(after, 'caisson_sandbox_create_duration_seconds_bucket{le="0.05"}'), 0);
  assert.equal(value(after, 'caisson_sandbox_create_duration_seconds_bucket{le="0.075"}'), 1);
});

test("open connections are counted, those to sandboxes apart", async () => {
  using metrics = new Metrics();
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  assert.ok(address !== null && typeof address === "object");
  const clients = [connect(address.port), connect(address.port), connect(address.port)];
  for (let count = 0; count < clients.length; count += 1) await once(server, "connection");
  metrics.watchConnections(server, () => 2);
  const text = await metrics.text();
  for (const client of clients) client.destroy();
  server.close();
  assert.equal(value(text, 'caisson_connections{protocol="websocket"}'), 2);
  assert.equal(value(text, 'caisson_connections{protocol="http"}'), 1);
});

test("docs/metrics.md lists every figure of Caisson's own, and no other", async () => {
  using metrics = new Metrics();
  const names = metrics.registry
    .getMetricsAsArray()
    .map(({ name }) => name)
    .filter((name) => name.startsWith("caisson_"));
  const text = await readFile(join(import.meta.dirname, "../../../../docs/metrics.md"), "utf8");
  const listed = [...text.matchAll(/^\| `(caisson_\w+)` \|/gm)].map(([, name]) => name);
  assert.deepEqual(listed.sort(), names.sort());
});
