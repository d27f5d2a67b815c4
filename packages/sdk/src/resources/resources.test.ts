import assert from "node:assert/strict";
import { test } from "node:test";
import { inspect } from "node:util";
import { EXTENDED_SNAPSHOT, EXTENDED_VOLUME, FakeApi, WIRE_VOLUME } from "../../tests/fake-api.ts";
import { nextCursor } from "../core/page.ts";
import { Client, NotSupportedError, Snapshot, Volume } from "../index.ts";

test("a volume has the short and the official names, and prints readably", async () => {
  await using api = await FakeApi.start(() => ({ body: EXTENDED_VOLUME }));
  const volume = await new Client(api.options).volumes.get("cache");
  assert.ok(volume instanceof Volume);
  assert.equal(volume.used, 8192);
  assert.equal(volume.estimatedFlattenedSize, 8192);
  assert.equal(volume.estimatedAllocatedSize, 4096);
  assert.equal(volume.isBootable, false);
  assert.equal(volume.baseSnapshot, null);
  assert.equal(volume.attachedTo, "sbx_ord_0123456789abcdefghjk");
  assert.equal(volume.createdAt?.toISOString(), "2026-01-30T18:33:40.790Z");
  assert.equal(
    inspect(volume, { compact: 3, breakLength: 900 }),
    "Volume { id: 'vol_ord_0123456789abcdefghjk', slug: 'cache', region: 'ord', capacity: 1000000000, used: 8192, " +
      "allocated: 4096, inodes: 1024, usedInodes: 11, exclusive: 4096, usageMeasuredAt: 2026-01-30T18:34:00.000Z, bootable: false, parent: { kind: 'image', id: 'builtin:debian-13', slug: 'builtin:debian-13' }, " +
      "labels: { team: 'a' }, attachedTo: 'sbx_ord_0123456789abcdefghjk', createdAt: 2026-01-30T18:33:40.790Z, " +
      "deletedAt: null, purgeAt: null, lastError: { message: 'Writes are lost', at: 2026-01-30T18:33:40.790Z }, " +
      "unavailable: 'Mount the disk', node: 'nod_0123456789abcdefghjk', storageClass: 'local', " +
      "schedule: { every: '5m', error: null, replicates: true, nextAt: 2026-01-30T18:38:40.790Z }, replicatedAt: 2026-01-30T18:33:41.000Z }",
  );
});

test("a server that knows only the common form is understood too", async () => {
  const base_snapshot = { id: "snp_ord_0123456789abcdefghjk", slug: "base" };
  await using api = await FakeApi.start(() => ({ body: { ...WIRE_VOLUME, base_snapshot } }));
  const volume = await Volume.get("cache", api.options);
  assert.equal(volume?.used, 8192);
  assert.deepEqual(volume?.parent, { kind: "snapshot", ...base_snapshot });
  assert.deepEqual([volume?.inodes, volume?.usedInodes], [null, null]);
  assert.deepEqual([volume?.exclusive, volume?.usageMeasuredAt], [null, null]);
  assert.deepEqual(volume?.labels, {});
  assert.equal(volume?.createdAt, null);
  assert.equal(volume?.lastError, null);
  assert.equal(volume?.unavailable, null);
  assert.deepEqual([volume?.schedule, volume?.replicatedAt], [null, null]);
  assert.equal(volume?.storageClass, null);
});

test("a snapshot has the short and the official names and says how consistent it is", async () => {
  await using api = await FakeApi.start(() => ({ body: EXTENDED_SNAPSHOT }));
  const snapshot = await Snapshot.get("cache-1", api.options);
  assert.equal(snapshot?.bootable, true);
  assert.equal(snapshot?.isBootable, true);
  assert.equal(snapshot?.flattenedSize, 2);
  assert.equal(snapshot?.allocatedSize, 1);
  assert.deepEqual([snapshot?.inodes, snapshot?.usedInodes], [1024, 12]);
  assert.deepEqual([snapshot?.exclusive, snapshot?.usageMeasuredAt], [3, null]);
  assert.equal(snapshot?.consistency, "frozen");
  assert.equal(snapshot?.automatic, true);
  assert.equal(snapshot?.purgeAt?.toISOString(), "2026-02-01T00:00:00.000Z");
});

test("a volume is created with a schedule, and given and taken one", async () => {
  const requests: unknown[] = [];
  await using api = await FakeApi.start(({ method, url, body }) => {
    requests.push([method, url.pathname, (body as { every?: string | null }).every]);
    return { body: EXTENDED_VOLUME };
  });
  const { volumes } = new Client(api.options);
  const volume = await volumes.create({ slug: "cache", region: "ord", capacity: "1GB", every: "5m" });
  assert.equal(volume.schedule?.nextAt.toISOString(), "2026-01-30T18:38:40.790Z");
  await volumes.schedule("cache", { every: "12h" });
  await volumes.schedule("cache", { every: null });
  const path = "/api/v2/volumes/cache/schedule";
  assert.deepEqual(requests, [
    ["POST", "/api/v2/volumes", "5m"],
    ["POST", path, "12h"],
    ["POST", path, null],
  ]);
});

test("a snapshot says how it stands with the snapshot store, and is replicated by a call", async () => {
  const requests: string[] = [];
  await using api = await FakeApi.start(({ method, url }) => {
    requests.push(`${method} ${url.pathname}`);
    return { body: EXTENDED_SNAPSHOT };
  });
  const { replication } = await new Client(api.options).snapshots.replicate("cache-1");
  assert.deepEqual(requests, ["POST /api/v2/snapshots/cache-1/replicate"]);
  assert.deepEqual(replication, {
    state: "replicated",
    at: new Date("2026-01-30T19:00:00.000Z"),
    ...{ bytes: 30, read: 100, shared: 7, sent: 20, manifest: "manifests/org/snp", error: null, retryAt: null },
  });
});

test("creating sends the options and nothing else of what the caller passed", async () => {
  await using api = await FakeApi.start(() => ({ body: EXTENDED_VOLUME }));
  await Volume.create({
    ...api.options,
    slug: "cache",
    region: "ord",
    capacity: "1GB",
    from: "builtin:debian-13",
    labels: { a: "b" },
  });
  await Snapshot.create("cache", { ...api.options, slug: "cache-1" }).catch(() => undefined);
  assert.deepEqual(api.requests[0]?.body, {
    slug: "cache",
    region: "ord",
    capacity: "1GB",
    from: "builtin:debian-13",
    labels: { a: "b" },
  });
  assert.deepEqual(api.requests[1]?.body, { slug: "cache-1" });
  assert.equal(api.requests[1]?.url.pathname, "/api/v2/volumes/cache/snapshot");
});

test("iterating a page walks all pages with the same filters", async () => {
  await using api = await FakeApi.start((request, count) => {
    const next = new URL(request.url);
    next.searchParams.set("cursor", `page-${count + 1}`);
    const headers: Record<string, string> = count < 3 ? { link: `<${next}>; rel="next"` } : {};
    return { body: [{ ...WIRE_VOLUME, slug: `v${count}` }], headers };
  });
  const page = await new Client(api.options).volumes.list({
    search: "v",
    labels: { "a b": "c&d" },
    deleted: true,
    limit: 1,
  });
  assert.equal(page.hasMore, true);
  const slugs = [];
  for await (const { slug } of page) slugs.push(slug);
  assert.deepEqual(slugs, ["v1", "v2", "v3"]);
  for (const { url } of api.requests) {
    assert.equal(url.searchParams.get("search"), "v");
    assert.equal(url.searchParams.get("labels[a b]"), "c&d");
    assert.equal(url.searchParams.get("deleted"), "true");
    assert.equal(url.searchParams.get("limit"), "1");
  }
  assert.deepEqual(
    api.requests.map(({ url }) => url.searchParams.get("cursor")),
    [null, "page-2", "page-3"],
  );
});

test("the last page has no next one", async () => {
  await using api = await FakeApi.start(() => ({ body: [] }));
  const page = await new Client(api.options).snapshots.list();
  assert.deepEqual([page.hasMore, page.nextCursor, await page.getNextPage()], [false, null, null]);
});

test("the next cursor is read from any well-formed Link header", () => {
  assert.equal(nextCursor('<http://h/v?cursor=a%2Cb&limit=1>; rel="next"'), "a,b");
  assert.equal(nextCursor('<http://h/v?cursor=p>; rel="prev", <http://h/v?cursor=n>; title="x"; rel=next'), "n");
  assert.equal(nextCursor('</v?cursor=r>; rel="next"'), "r");
  assert.equal(nextCursor('<http://h/v?cursor=p>; rel="prev"'), null);
  assert.equal(nextCursor(null), null);
});

test("our additions use the agreed paths and bodies", async () => {
  const descendant = {
    kind: "volume",
    id: "v",
    slug: "s",
    region: "ord",
    created_at: "2026-01-30T18:33:40.790Z",
    parent_id: "p",
  };
  await using api = await FakeApi.start(({ url }) => {
    if (url.pathname.endsWith("/descendants")) return { body: [descendant] };
    return { body: url.pathname.includes("snapshots") ? EXTENDED_SNAPSHOT : EXTENDED_VOLUME };
  });
  const { volumes, snapshots } = new Client(api.options);
  await volumes.restore("v", { slug: "again" });
  await volumes.grow("v", { capacity: "2GB" });
  await volumes.update("v", { labels: { a: "b" } });
  assert.deepEqual(await volumes.descendants("v"), [
    { kind: "volume", id: "v", slug: "s", region: "ord", createdAt: new Date(descendant.created_at), parentId: "p" },
  ]);
  await volumes.acknowledge("v");
  await volumes.delete("v", { now: true });
  await volumes.delete("v");
  await volumes.purge("v");
  await snapshots.delete("s", { now: true });
  await snapshots.purge("s");
  await snapshots.restore("s");
  await snapshots.update("s", { labels: {} });
  await snapshots.descendants("s");
  assert.deepEqual(
    api.requests.map(({ method, url, body }) => [method, url.pathname + url.search, body]),
    [
      ["POST", "/api/v2/volumes/v/restore", { slug: "again" }],
      ["POST", "/api/v2/volumes/v/grow", { capacity: "2GB" }],
      ["PATCH", "/api/v2/volumes/v", { labels: { a: "b" } }],
      ["GET", "/api/v2/volumes/v/descendants", undefined],
      ["POST", "/api/v2/volumes/v/acknowledge", undefined],
      ["DELETE", "/api/v2/volumes/v?now=true", undefined],
      ["DELETE", "/api/v2/volumes/v", undefined],
      ["POST", "/api/v2/volumes/v/purge", undefined],
      ["DELETE", "/api/v2/snapshots/s?now=true", undefined],
      ["POST", "/api/v2/snapshots/s/purge", undefined],
      ["POST", "/api/v2/snapshots/s/restore", {}],
      ["PATCH", "/api/v2/snapshots/s", { labels: {} }],
      ["GET", "/api/v2/snapshots/s/descendants", undefined],
    ],
  );
});

test("pools tell what they hold, and grow", async () => {
  const disks = [{ directory: "/b", problem: "Mount it", total: 0, used_percent: 0 }];
  const pool = {
    node: "nod_a",
    region: "ord",
    problem: null,
    total: 100,
    used: 60,
    used_percent: 61.5,
    built_in: 7,
    retention_floor_hours: 1,
    disks,
  };
  await using api = await FakeApi.start(() => ({ body: [pool] }));
  const { pools } = new Client(api.options);
  for (const found of [await pools.list(), await pools.grow()]) {
    const { node, problem, region, total, used, usedPercent, builtIn, retentionFloorHours } = found[0] ?? {};
    assert.deepEqual([node, problem], ["nod_a", null]);
    assert.deepEqual([region, total, used, usedPercent, builtIn, retentionFloorHours], ["ord", 100, 60, 61.5, 7, 1]);
    const [disk] = found[0]?.disks ?? [];
    assert.deepEqual([disk?.directory, disk?.problem, disk?.usedPercent], ["/b", "Mount it", 0]);
  }
  assert.deepEqual(
    api.requests.map(({ method, url }) => `${method} ${url.pathname}`),
    ["GET /api/v1/pools", "POST /api/v1/pools/grow"],
  );
});

test("the snapshot store tells how it stands, and is accepted", async () => {
  const store = { url: "file:///mnt/far", id: null, problem: "Mount its disk", replicas: 3 };
  const at = "2026-01-30T18:33:40.790Z";
  const uploads = { waiting: 2, failing: 1, oldest_waiting_at: at, last_upload_at: null, last_error: "It is away" };
  const rotation = { stage: "waiting", since: at, problem: null };
  await using api = await FakeApi.start(({ method }) => ({
    body: method === "GET" ? { ...store, ...uploads, key_rotation: rotation } : { waiting: 3 },
  }));
  const { snapshotStore } = new Client(api.options);
  assert.deepEqual(await snapshotStore.get(), {
    ...{ ...store, waiting: 2, failing: 1, oldestWaitingAt: new Date(at), lastUploadAt: null, lastError: "It is away" },
    keyRotation: { ...rotation, since: new Date(at) },
  });
  assert.equal(await snapshotStore.accept(), 3);
  assert.equal(await snapshotStore.accept({ newKey: true }), 3);
  assert.deepEqual(
    api.requests.map(({ method, url }) => `${method} ${url.pathname}`),
    ["GET /api/v1/snapshot-store", ...Array(2).fill("POST /api/v1/snapshot-store/accept")],
  );
});

test("the installation key is rotated, and finished by a proof that tells nothing of the key", async () => {
  const answers = [
    { outcome: "checked", organization_keys: 3, new_key_file: null, former_key_file: null },
    { outcome: "waiting", organization_keys: 3, new_key_file: "keys/n", former_key_file: null },
    { outcome: "finished", organization_keys: 3, new_key_file: null, former_key_file: "keys/f" },
  ];
  await using api = await FakeApi.start((_request, count) => ({ body: answers[count - 1] }));
  const { snapshotStore } = new Client(api.options);
  const checked = { outcome: "checked", organizationKeys: 3, newKeyFile: null, formerKeyFile: null };
  assert.deepEqual(await snapshotStore.rotateKey({ dryRun: true }), checked);
  assert.deepEqual(await snapshotStore.rotateKey(), { ...checked, outcome: "waiting", newKeyFile: "keys/n" });
  const key = `caisson-key-1:${"0123456789abcdef".repeat(4)}\n`;
  const finished = { ...checked, outcome: "finished", formerKeyFile: "keys/f" };
  assert.deepEqual(await snapshotStore.finishKeyRotation({ key }), finished);
  for (const wrong of ["", "0123456789abcdef".repeat(4), key.toUpperCase(), `${key}${key}`])
    await assert.rejects(snapshotStore.finishKeyRotation({ key: wrong }), { name: "TypeError", message: /is no inst/ });
  const path = "POST /api/v1/snapshot-store";
  // printf 'caisson key kept\n' | openssl dgst -sha256 -mac HMAC -macopt hexkey:0123…
  const proof = "1e047c16df529b2e836c034e668ce3e7dbb42393995b0671e6bf4e9d58bcba76";
  assert.deepEqual(
    api.requests.map(({ method, url, body }) => [`${method} ${url.pathname}`, body]),
    [
      [`${path}/rotate-key`, { dry_run: true }],
      [`${path}/rotate-key`, {}],
      [`${path}/finish-key-rotation`, { proof }],
    ],
  );
});

test("tokens for joining are made, listed and revoked", async () => {
  const token = {
    id: "jtk_a",
    region: null,
    created_at: "2026-01-30T18:33:40.790Z",
    expires_at: "2026-01-30T19:33:40.790Z",
    node_id: "nod_a",
  };
  await using api = await FakeApi.start(({ method }) => {
    if (method === "DELETE") return { status: 204 };
    return { body: method === "GET" ? [token] : { ...token, token: "cjt_x", server_url: "http://10.0.0.1:8484" } };
  });
  const { nodes } = new Client(api.options);
  const made = await nodes.createToken({ expiresSeconds: 60, region: "ord" });
  const { token: text, serverUrl, ...rest } = made;
  assert.deepEqual([text, serverUrl], ["cjt_x", "http://10.0.0.1:8484"]);
  assert.deepEqual(rest, {
    id: "jtk_a",
    region: null,
    createdAt: new Date(token.created_at),
    expiresAt: new Date(token.expires_at),
    nodeId: "nod_a",
  });
  assert.deepEqual(await nodes.listTokens(), [rest]);
  await nodes.revokeToken("jtk_a");
  assert.deepEqual(
    api.requests.map(({ method, url }) => `${method} ${url.pathname}`),
    ["POST /api/v1/nodes/tokens", "GET /api/v1/nodes/tokens", "DELETE /api/v1/nodes/tokens/jtk_a"],
  );
});

test("the authority of nodes is shown, renewed and retired", async () => {
  const fingerprint = "ab".repeat(32);
  const authorities = [{ number: 2, fingerprint, expires_at: "2036-01-30T18:33:40.790Z" }];
  await using api = await FakeApi.start(() => ({ body: { authorities, waiting_nodes: ["nod_a"] } }));
  const { nodes } = new Client(api.options);
  const state = {
    authorities: [{ number: 2, fingerprint, expiresAt: new Date("2036-01-30T18:33:40.790Z") }],
    waitingNodes: ["nod_a"],
  };
  const retired = [await nodes.retireAuthority(), await nodes.retireAuthority({ lockOut: true })];
  for (const shown of [await nodes.authority(), await nodes.renewAuthority(), ...retired])
    assert.deepEqual(shown, state);
  assert.deepEqual(
    api.requests.map(({ method, url, body }) => [`${method} ${url.pathname}`, body]),
    [
      ["POST /api/v1/nodes/authority/retire", { lock_out: false }],
      ["POST /api/v1/nodes/authority/retire", { lock_out: true }],
      ["GET /api/v1/nodes/authority", undefined],
      ["POST /api/v1/nodes/authority/renew", undefined],
    ],
  );
});

test("nodes are listed, drained and forgotten", async () => {
  const node = {
    id: "nod_a",
    state: "draining",
    draining: true,
    regions: ["ord"],
    address: "10.0.0.1",
    connected: false,
    problem: "Cannot reach it: it is down",
    run: "run_a",
    free: { ord: 5 },
    labels: { rack: "b4" },
    generation: 3,
    started_at: "2026-01-30T18:33:40.790Z",
    seen_at: "2026-01-30T18:33:43.790Z",
    lease_until: "2026-01-30T18:33:58.790Z",
    certificate_until: "2026-07-29T18:33:40.000Z",
    places: 100,
    places_taken: 2,
    memory_mib: null,
    memory_taken_mib: 2560,
  };
  const names = [{ organization: "default", slug: "cache" }];
  const loss = { volumes: 1, volume_names: names, snapshots: 2, replicated_snapshots: 3, sandboxes: 4 };
  await using api = await FakeApi.start(({ method, url }) => {
    if (method === "DELETE") return { status: 204 };
    if (url.pathname.endsWith("/loss")) return { body: loss };
    return { body: url.pathname === "/api/v1/nodes" ? [node] : node };
  });
  const { nodes } = new Client(api.options);
  const found = await nodes.list();
  found.push(await nodes.get("nod_a"), await nodes.drain("nod_a"), await nodes.undrain("nod_a"));
  found.push(await nodes.setAddress("nod_a", "10.0.0.1:8485"));
  for (const one of found) {
    const { seenAt, placesTaken, memoryMib, memoryTakenMib, ...rest } = one;
    assert.deepEqual([seenAt, placesTaken, memoryMib, memoryTakenMib], [new Date(node.seen_at), 2, null, 2560]);
    assert.deepEqual([rest.id, rest.state, rest.draining, rest.labels], ["nod_a", "draining", true, { rack: "b4" }]);
    const { connected, problem, run, free } = rest;
    assert.deepEqual(rest.certificateUntil, new Date(node.certificate_until));
    assert.deepEqual([connected, problem, run, free], [false, "Cannot reach it: it is down", "run_a", { ord: 5 }]);
  }
  await nodes.forget("nod_a");
  assert.deepEqual(await nodes.loss("nod_a"), {
    volumes: 1,
    volumeNames: names,
    snapshots: 2,
    replicatedSnapshots: 3,
    sandboxes: 4,
  });
  await nodes.forget("nod_a", { lost: true });
  assert.deepEqual(
    api.requests.map(({ method, url }) => `${method} ${url.pathname}${url.search}`),
    [
      "GET /api/v1/nodes",
      "GET /api/v1/nodes/nod_a",
      "POST /api/v1/nodes/nod_a/drain",
      "POST /api/v1/nodes/nod_a/undrain",
      "PATCH /api/v1/nodes/nod_a",
      "DELETE /api/v1/nodes/nod_a",
      "GET /api/v1/nodes/nod_a/loss",
      "DELETE /api/v1/nodes/nod_a?lost=true",
    ],
  );
});

test("tokens and organizations are managed", async () => {
  const token = { id: "tok", name: "ci", organization_id: "org", created_at: "2026-01-30T18:33:40.790Z" };
  const organization = { id: "org", slug: "acme", created_at: "2026-01-30T18:33:40.790Z" };
  await using api = await FakeApi.start(({ method, url }) => {
    const object = url.pathname.startsWith("/api/v1/tokens") ? token : organization;
    if (method === "DELETE") return { status: 204 };
    return { body: method === "GET" ? [object] : { ...object, token: "ddo_new" } };
  });
  const client = new Client(api.options);
  assert.deepEqual(await client.tokens.list(), [
    { id: "tok", name: "ci", organizationId: "org", createdAt: new Date(token.created_at) },
  ]);
  assert.equal((await client.tokens.create({ name: "ci", organization: "acme" })).token, "ddo_new");
  assert.equal((await client.tokens.rotate("tok")).token, "ddo_new");
  await client.tokens.delete("tok");
  assert.equal((await client.organizations.create({ slug: "acme" })).slug, "acme");
  assert.deepEqual(
    (await client.organizations.list()).map(({ id }) => id),
    ["org"],
  );
});

test("what Caisson does not have is refused by name, and the token is never shown", async () => {
  const client = new Client({ token: "ddo_secret" });
  for (const name of ["apps", "layers", "revisions", "timelines"] as const) {
    assert.throws(
      () => client[name],
      (error) => error instanceof NotSupportedError && error.message.includes(name),
    );
  }
  assert.doesNotMatch(inspect(client, { depth: 9, showHidden: true }), /ddo_secret/);
});

test("previews are created, listed, linked and revoked", async () => {
  const wire = {
    domain: "a.caisson.localhost:8443",
    url: "https://a.caisson.localhost:8443",
    port: 8000,
    pid: null,
    private: true,
    rewrite_host: false,
    created_at: "2026-01-30T18:33:40.790Z",
  };
  await using api = await FakeApi.start(({ method, url }) => {
    if (method === "GET") return { body: [wire] };
    if (method === "DELETE") return { status: 204 };
    return {
      body: url.pathname.endsWith("/link")
        ? { url: "https://x/", expires_at: wire.created_at }
        : { ...wire, token: "cpt_x" },
    };
  });
  const { previews } = new Client(api.options);
  const id = "sbx_ord_0123456789abcdefghjk";
  const created = await previews.create(id, { port: 8000, isPrivate: true });
  assert.deepEqual(
    [created.token, created.isPrivate, created.createdAt.getTime()],
    ["cpt_x", true, Date.parse(wire.created_at)],
  );
  assert.equal((await previews.list(id))[0]?.domain, wire.domain);
  assert.equal((await previews.link(id, wire.domain, { expiresIn: "2m", path: "/a" })).url, "https://x/");
  await previews.revoke(id, wire.domain);
  const base = `/api/v3/sandbox/${id}/expose/http`;
  assert.deepEqual(
    api.requests.map(({ method, url, body }) => [method, url.pathname, body]),
    [
      ["POST", base, { port: 8000, private: true }],
      ["GET", base, undefined],
      ["POST", `${base}/a.caisson.localhost%3A8443/link`, { expires_in_seconds: 120, path: "/a" }],
      ["DELETE", `${base}/a.caisson.localhost%3A8443`, undefined],
    ],
  );
});

test("SSH user names and keys are made, listed and taken back", async () => {
  const key = {
    id: "key_x",
    name: "laptop",
    type: "ssh-ed25519",
    public_key: "ssh-ed25519 AAAA",
    fingerprint: "SHA256:x",
    created_at: "2026-01-30T18:33:40.790Z",
  };
  await using api = await FakeApi.start(({ method, url }) => {
    if (method === "DELETE") return { status: 204 };
    if (url.pathname === "/api/v1/ssh")
      return { body: { hostname: "h", port: 22, host_key: "ssh-ed25519 BBBB", fingerprint: "SHA256:y" } };
    if (url.pathname.endsWith("/expose/ssh")) return { body: { hostname: "h", username: "u", port: 22 } };
    return { body: method === "GET" ? [key] : key };
  });
  const { ssh, sshKeys } = new Client(api.options);
  const id = "sbx_ord_0123456789abcdefghjk";
  assert.deepEqual(await ssh.endpoint(), {
    hostname: "h",
    port: 22,
    hostKey: "ssh-ed25519 BBBB",
    fingerprint: "SHA256:y",
  });
  assert.deepEqual(await ssh.create(id), { hostname: "h", username: "u", port: 22 });
  await ssh.revoke(id, "u");
  await ssh.revoke(id);
  assert.equal((await sshKeys.add({ publicKey: key.public_key })).createdAt.getTime(), Date.parse(key.created_at));
  assert.equal((await sshKeys.list())[0]?.fingerprint, "SHA256:x");
  await sshKeys.remove("key_x");
  const base = `/api/v3/sandbox/${id}/expose/ssh`;
  assert.deepEqual(
    api.requests.map(({ method, url, body }) => [method, url.pathname, body]),
    [
      ["GET", "/api/v1/ssh", undefined],
      ["POST", base, {}],
      ["DELETE", base, { username: "u" }],
      ["DELETE", base, undefined],
      ["POST", "/api/v1/ssh-keys", { public_key: "ssh-ed25519 AAAA" }],
      ["GET", "/api/v1/ssh-keys", undefined],
      ["DELETE", "/api/v1/ssh-keys/key_x", undefined],
    ],
  );
});
