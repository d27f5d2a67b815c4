import assert from "node:assert/strict";
import { after, before, suite, test } from "node:test";
import { testTimeoutMs } from "@caisson/linux/testing";
import { Sandbox } from "@deno/sandbox";
import { shell, TestClient } from "./support/client.ts";
import { eventually } from "./support/eventually.ts";
import { TestServer } from "./support/server.ts";

/** The values of a scrape, by series. */
type Series = ReadonlyMap<string, number>;

suite("metrics", { timeout: testTimeoutMs(300_000) }, () => {
  let server: TestServer;
  let client: TestClient;
  before(async () => {
    server = await TestServer.start({ settings: '[pool]\nsize = "1200MiB"\n', hasPoolFile: true });
    Object.assign(process.env, server.clientEnv());
    client = new TestClient(server);
  });
  after(() => server?.[Symbol.asyncDispose]());

  const scrapeText = async (): Promise<string> => {
    const response = await server.request("/metrics");
    assert.equal(response.status, 200);
    assert.equal(response.headers.get("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    return response.text();
  };
  const scrape = async (): Promise<Series> => {
    const lines = (await scrapeText()).split("\n").filter((line) => line !== "" && !line.startsWith("#"));
    return new Map(
      lines.map((line) => {
        const [, series = "", value = ""] = /^([a-z_][a-z0-9_]*(?:\{.*\})?) (\S+)$/i.exec(line) ?? [];
        assert.ok(series !== "", line);
        return [series, Number(value)] as const;
      }),
    );
  };
  const read = (series: Series, name: string): number => {
    const value = series.get(name);
    assert.ok(value !== undefined, `${name} is missing`);
    return value;
  };
  /** The labels of everything that is about the one pool that there is. */
  const poolLabels = async (): Promise<string> => {
    const [node] = await client.rest<{ id: string }[]>("GET", "/api/v1/nodes");
    return `node="${node?.id}",region="ord"`;
  };
  const scrapeUntil = (what: string, name: string, isMet: (value: number) => boolean): Promise<Series> =>
    eventually(what, async () => {
      const series = await scrape();
      return isMet(read(series, name)) ? series : null;
    });

  test("are for administrators", async () => {
    assert.equal((await fetch(new URL("/metrics", server.endpoint))).status, 401);
    await client.rest("POST", "/api/v1/organizations", { slug: "other-team" });
    const { token } = await client.rest<{ token: string }>("POST", "/api/v1/tokens", {
      name: "other",
      organization: "other-team",
    });
    const refused = await server.request("/metrics", { headers: { authorization: `Bearer ${token}` } });
    assert.equal(refused.status, 403);
    assert.equal(((await refused.json()) as { code: string }).code, "FORBIDDEN");
  });

  test("tell what happens to sandboxes and who is connected", async () => {
    const before = await scrape();
    const sandbox = await Sandbox.create();
    const during = await scrape();
    assert.equal(read(during, 'caisson_sandboxes{state="running"}'), 1);
    assert.equal(read(during, 'caisson_connections{protocol="websocket"}'), 1);
    assert.ok(read(during, 'caisson_connections{protocol="http"}') >= 1);
    assert.ok(read(during, "caisson_sandbox_places") > 1);
    await sandbox.kill();
    await assert.rejects(Sandbox.create({ root: "absent" }));
    const after = await scrapeUntil("the end to be counted", 'caisson_sandboxes{state="running"}', (now) => now === 0);
    const grown = (name: string) => read(after, name) - (before.get(name) ?? 0);
    assert.equal(grown('caisson_sandbox_creates_total{outcome="ok"}'), 1);
    assert.equal(grown('caisson_sandbox_creates_total{outcome="VOLUME_NOT_FOUND"}'), 1);
    assert.equal(grown("caisson_sandbox_create_duration_seconds_count"), 1);
    assert.ok(grown("caisson_sandbox_create_duration_seconds_sum") > 0);
    assert.equal(grown('caisson_sandboxes_ended_total{reason="killed"}'), 1);
    const upgrades = 'caisson_http_requests_total{method="GET",route="/api/v3/sandboxes/create",status="101"}';
    assert.equal(grown(upgrades), 1);
    assert.ok(grown('caisson_http_requests_total{method="GET",route="/metrics",status="200"}') >= 1);
  });

  test("tell how full the pool is, as `caisson df` does", async () => {
    await client.createVolume("kept");
    await client.with({ volumes: { "/v": "kept" } }, (sandbox) => shell(sandbox, "yes | head -c 30M > /v/f; sync"));
    await client.snapshot("kept", "image");
    await client.createVolume("gone");
    await client.rest("DELETE", "/api/v2/volumes/gone");
    const series = await scrape();
    const [pool] = await client.rest<Record<string, number>[]>("GET", "/api/v1/pools");
    const labels = await poolLabels();
    const inRegion = (name: string) => read(series, `caisson_pool_${name}{${labels}}`);
    assert.equal(inRegion("size_bytes"), pool?.total);
    assert.equal(inRegion("headroom_bytes"), pool?.headroom);
    assert.equal(inRegion("reclaimable_bytes"), pool?.deleted);
    assert.ok(inRegion("reclaimable_bytes") > 0);
    assert.equal(inRegion("used_bytes") + inRegion("free_bytes"), inRegion("size_bytes"));
    assert.ok(inRegion("used_ratio") > 0 && inRegion("used_ratio") < 1);
    assert.equal(inRegion("threshold_percent"), 0);
    const disks = (kind: string, state: string) =>
      read(series, `caisson_disks{${labels},kind="${kind}",state="${state}"}`);
    assert.deepEqual([disks("volume", "ready"), disks("volume", "deleted"), disks("snapshot", "ready")], [1, 1, 1]);
  });

  test("tell a threshold that is reached", async () => {
    await client.createVolume("large", { capacity: "1GB" });
    await client.with({ volumes: { "/v": "large" } }, (sandbox) =>
      shell(sandbox, "yes | head -c 2G > /v/fill; sync; true"),
    );
    const threshold = `caisson_pool_threshold_percent{${await poolLabels()}}`;
    await scrapeUntil("the threshold", threshold, (percent) => percent >= 80);
  });

  test("name nothing of anybody, and do not grow with what clients ask for", async () => {
    const count = (await scrape()).size;
    for (let index = 0; index < 50; index += 1) {
      await server.request(`/api/v2/volumes/nobody-${index}`);
      await server.request(`/nowhere/${index}`);
    }
    const text = await scrapeText();
    assert.ok((await scrape()).size <= count + 4);
    assert.doesNotMatch(text, /nobody|nowhere\/|kept|gone|other-team|default\b|vol_|snp_|sbx_|org_|tok_/);
  });
});
