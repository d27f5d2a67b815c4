import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdir, mkdtemp, readdir, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import { promisify } from "node:util";
import { testTimeoutMs } from "@caisson/linux/testing";
import { FaultProxy, SeaweedServer } from "@caisson/objects/testing";
import type { Sandbox } from "@deno/sandbox";
import { shell, TestClient } from "./support/client.ts";
import { eventually } from "./support/eventually.ts";
import { TestServer } from "./support/server.ts";

const MIB = 2 ** 20;
const TIMEOUT_MS = 60_000;
const CLI = join(import.meta.dirname, "../packages/cli/src/main.ts");

interface Replication {
  readonly state: string;
  readonly at: string | null;
  readonly bytes: number | null;
  readonly read: number | null;
  readonly shared: number | null;
  readonly sent: number | null;
  readonly manifest: string | null;
  readonly error: string | null;
}

/** Shorthands for snapshots that go to a store. */
class Replicating {
  readonly server: TestServer;
  readonly client: TestClient;

  constructor(server: TestServer) {
    this.server = server;
    this.client = new TestClient(server);
  }

  async replicationOf(slug: string): Promise<Replication> {
    const path = `/api/v2/snapshots/${slug}`;
    return (await this.client.extended<{ replication: Replication }>("GET", path)).replication;
  }

  until(slug: string, state: string): Promise<Replication> {
    return eventually(
      `${slug} is ${state}`,
      async () => {
        const found = await this.replicationOf(slug);
        return found.state === state ? found : null;
      },
      TIMEOUT_MS,
    );
  }

  /** Until a try has failed for this reason: one that was under way before may fail later for another. */
  async untilFailed(slug: string, reason: RegExp): Promise<void> {
    await eventually(
      `${slug} has failed: ${reason}`,
      async () => {
        const { state, error } = await this.replicationOf(slug);
        return state === "failed" && reason.test(error ?? "") ? true : null;
      },
      TIMEOUT_MS,
    );
  }

  /** Writes so much noise to a file of the volume, and takes a snapshot. */
  async snapshot(
    volume: string,
    slug: string,
    { mib, file = "noise" }: { readonly mib: number; readonly file?: string },
  ) {
    Object.assign(process.env, this.server.clientEnv());
    await this.client.with({ volumes: { "/v": volume } }, (sandbox: Sandbox) =>
      shell(sandbox, `head -c ${mib}M /dev/urandom > /v/${file}; echo 'a mark that must not leak' > /v/mark; sync`),
    );
    return this.client.snapshot(volume, slug);
  }

  async caisson(...args: readonly string[]): Promise<string> {
    const env = { ...process.env, CAISSON_TOKEN: this.server.token, CAISSON_ENDPOINT: this.server.endpoint };
    return (await promisify(execFile)(process.execPath, [CLI, ...args], { env })).stdout;
  }
}

suite("snapshots go to a directory", { timeout: testTimeoutMs(900_000) }, () => {
  let parent: string;
  let directory: string;
  /** Where the directory is while the store is away. */
  let away: string;
  let far: Replicating;
  let settings: string;

  before(async () => {
    parent = await mkdtemp(join(tmpdir(), "caisson-far-"));
    directory = join(parent, "store");
    away = join(parent, "away");
    await mkdir(directory);
    settings = `[snapshot_store]\nurl = "file://${directory}"\nbackup_every = "off"\n`;
    far = new Replicating(await TestServer.start());
    await far.server.stop();
    await far.server.writeSettings(settings);
    await far.server.start();
  });
  after(async () => {
    await far.server[Symbol.asyncDispose]();
    await rm(parent, { recursive: true });
  });
  /** Starts again with these settings, which the official client then finds. */
  const restart = async (more = ""): Promise<void> => {
    await far.server.stop();
    await far.server.writeSettings(more);
    await far.server.start();
    Object.assign(process.env, far.server.clientEnv());
  };
  const manifests = async (): Promise<number> =>
    (await readdir(join(directory, "manifests"), { recursive: true, withFileTypes: true })).filter((entry) =>
      entry.isFile(),
    ).length;

  test("a snapshot is replicated by itself, the next one sends only what is new, and the command says how much", async () => {
    await far.client.createVolume("data");
    await far.snapshot("data", "first", { mib: 20 });
    const first = await far.until("first", "replicated");
    assert.ok((first.sent ?? 0) > 20 * MIB && (first.sent ?? 0) < 24 * MIB, `sent ${first.sent}`);
    assert.ok(first.at !== null && first.manifest?.startsWith("manifests/") && first.error === null);
    await far.snapshot("data", "second", { mib: 2, file: "more" });
    const second = await far.until("second", "replicated");
    assert.ok((second.sent ?? 0) < 8 * MIB, `sent ${second.sent} for 2 MiB that are new`);
    assert.ok((second.bytes ?? 0) > 22 * MIB && (second.read ?? 0) + (second.shared ?? 0) > 22 * MIB);
    assert.match(
      await far.caisson("snapshots", "replicate", "second"),
      /^Replicated snapshot second: read [\d.]+ MiB, sent [\d.]+ MiB, saved [\d.]+ MiB\n$/,
    );
    assert.match(await far.caisson("snapshots", "get", "second"), /REPLICATION\s+replicated .* in the store/);
  });

  test("of the next snapshot only what changed is read, and what comes of it is what reading all gives", async () => {
    await far.client.createVolume("read");
    await far.snapshot("read", "read-1", { mib: 48 });
    assert.equal((await far.until("read-1", "replicated")).shared, 0);
    await far.client.with({ volumes: { "/v": "read" } }, (sandbox) =>
      shell(
        sandbox,
        `dd if=/dev/urandom of=/v/noise bs=4k seek=2000 count=3 conv=notrunc status=none
         fallocate --punch-hole --offset 20M --length 3M /v/noise
         head -c 2M /dev/urandom > /v/other; rm /v/mark; sync`,
      ),
    );
    await far.client.snapshot("read", "read-2");
    const { read, shared, sent } = await far.until("read-2", "replicated");
    const mib = 2 ** 20;
    assert.ok(read !== null && shared !== null && sent !== null);
    assert.ok(read > 2 * mib && read < 16 * mib, `${read} bytes were read`);
    assert.ok(shared > 32 * mib, `${shared} bytes were not`);
    assert.ok(sent > 2 * mib && sent < 8 * mib, `${sent} bytes were sent`);
    assert.match(await far.caisson("snapshots", "replicate", "read-2"), /read [\d.]+ MiB, sent [\d.]+ MiB, saved/);
    // It reads both whole, and compares the image with the digest of the upload.
    assert.match(await far.caisson("verify", "read-2"), /read-2 +whole +whole/);
  });

  test("nothing in the store is in the clear, and the key is the server's alone", async () => {
    for (const entry of await readdir(directory, { recursive: true, withFileTypes: true }))
      if (entry.isFile())
        assert.ok(!(await readFile(join(entry.parentPath, entry.name))).includes("a mark that must not leak"));
    const path = join(far.server.dataDirectory, "keys/installation.key");
    assert.equal((await stat(path)).mode & 0o777, 0o600);
    const printed = await far.caisson("keys", "export", "--data", far.server.dataDirectory);
    assert.match(printed, /^caisson-key-1:[0-9a-f]{64}\n$/);
    assert.equal(printed, await readFile(path, "utf8"));
  });

  test("purging takes it out of the store, deleting does not", async () => {
    await far.snapshot("data", "leaves", { mib: 1 });
    await far.until("leaves", "replicated");
    const count = await manifests();
    await far.client.rest("DELETE", "/api/v2/snapshots/leaves");
    assert.equal(await manifests(), count);
    const [deleted] = await far.client.rest<{ id: string }[]>("GET", "/api/v2/snapshots?deleted=true&search=leaves");
    await far.client.rest("POST", `/api/v2/snapshots/${deleted?.id}/purge`, {});
    assert.equal(await manifests(), count - 1);
  });

  test("while the store is away snapshots are taken and say why they are not replicated, a purge waits, and all is made up for", async () => {
    await rename(directory, away);
    await far.snapshot("data", "waits", { mib: 1 });
    const failed = await far.until("waits", "failed");
    assert.match(failed.error ?? "", /directory is not there/);
    assert.deepEqual([failed.at, failed.manifest, failed.bytes], [null, null, null]);
    const response = await far.server.request("/api/v2/snapshots/first?now=true", { method: "DELETE" });
    assert.equal(response.status, 202, "its space is free, and its copy is not gone");
    await rename(away, directory);
    assert.equal(
      (await far.client.rest<{ id: string }>("POST", "/api/v2/snapshots/waits/replicate", {})).id.slice(0, 4),
      "snp_",
    );
    await far.until("waits", "replicated");
    const [first] = await far.client
      .rest<{ id: string }[]>("GET", "/api/v2/snapshots?deleted=true&search=first")
      .catch(() => []);
    assert.equal(first, undefined);
  });

  test("what no snapshot needs leaves the store, and what others have stays", async () => {
    const chunks = async (): Promise<number> =>
      (await readdir(join(directory, "chunks"), { recursive: true, withFileTypes: true })).filter((entry) =>
        entry.isFile(),
      ).length;
    await far.client.createVolume("swept");
    await far.snapshot("swept", "swept-1", { mib: 12 });
    await far.until("swept-1", "replicated");
    const before = await chunks();
    // An upload has half of the grace, which would be too little here.
    await restart(`${settings}grace_hours = 0.002\n`);
    await far.client.rest("DELETE", "/api/v2/snapshots/swept-1?now=true");
    await eventually(
      "the chunks of a snapshot that is gone",
      async () => ((await chunks()) <= before - 12 ? true : null),
      TIMEOUT_MS,
    );
    await restart(settings);
  });

  test("a key that is lost is told and never replaced, and is used again when it is put back", async () => {
    await far.client.createVolume("keyed");
    await far.snapshot("keyed", "keyed-1", { mib: 1 });
    await far.until("keyed-1", "replicated");
    const path = join(far.server.dataDirectory, "keys/installation.key");
    const key = await readFile(path);
    await far.server.stop();
    await rm(path);
    await far.server.start();
    await far.snapshot("keyed", "keyed-2", { mib: 1 });
    await far.untilFailed("keyed-2", /without the key of this installation: it is gone\. .*caisson keys export/);
    await assert.rejects(stat(path), { code: "ENOENT" });
    await assert.rejects(far.caisson("store", "get"), /keys export/);
    await writeFile(path, `caisson-key-1:${"0".repeat(64)}\n`);
    await far.client.rest("POST", "/api/v2/snapshots/keyed-2/replicate", {});
    await far.untilFailed("keyed-2", /the file has another one/);
    await writeFile(path, key);
    await far.client.rest("POST", "/api/v2/snapshots/keyed-2/replicate", {});
    await far.until("keyed-2", "replicated");
    assert.match(await far.caisson("store", "get"), /STATE +usable/);
    await rm(path);
    await assert.rejects(far.caisson("store", "get"), /it is gone/, "also when it is lost while the server runs");
    await writeFile(path, key, { mode: 0o600 });
    assert.match(await far.caisson("store", "get"), /STATE +usable/);
  });

  test("an empty directory, as of a disk that is not mounted, is no store until somebody accepts it, and then gets everything", async () => {
    await far.client.createVolume("mounted");
    await far.snapshot("mounted", "mounted-1", { mib: 1 });
    await far.until("mounted-1", "replicated");
    await rename(directory, away);
    await mkdir(directory);
    await far.snapshot("mounted", "mounted-2", { mib: 1 });
    await far.untilFailed("mounted-2", /it is empty, although .* replicated\. Mount its disk/);
    assert.deepEqual(await readdir(directory), []);
    const [code] = await far.client.refused("POST", "/api/v2/snapshots/mounted-1/verify", {});
    assert.equal(code, "503 SNAPSHOT_STORE_UNAVAILABLE");
    assert.equal((await far.replicationOf("mounted-1")).state, "replicated");
    assert.match(await far.caisson("store", "accept"), /^Accepted the snapshot store: \d+ snapshots are/);
    for (const slug of ["mounted-1", "mounted-2"]) await far.until(slug, "replicated");
    assert.ok(((await far.replicationOf("mounted-1")).sent ?? 0) > MIB);
    await rm(directory, { recursive: true });
    await rename(away, directory);
    await far.caisson("store", "accept");
    await far.until("mounted-1", "replicated");
    assert.equal((await far.replicationOf("mounted-1")).sent, 0, "what is there is not sent again");
    await far.until("mounted-2", "replicated");
  });

  test("snapshots whose pool is lost come back when they are used, to clone and to boot, and those that were not replicated do not", async () => {
    await far.client.createVolume("system", { from: "builtin:debian-13", capacity: "5GB" });
    await far.client.with({ root: "system" }, (sandbox) => shell(sandbox, "echo kept > /root/mark; sync"));
    await far.client.snapshot("system", "system-1");
    await far.until("system-1", "replicated");
    const sum = await far.client.with({ volumes: { "/v": "data" } }, (sandbox) =>
      shell(sandbox, "sha256sum < /v/noise"),
    );
    await far.client.snapshot("data", "data-1");
    await far.until("data-1", "replicated");
    await restart(settings.replace("[snapshot_store]", '[snapshot_store]\nreplication = "none"'));
    await far.client.snapshot("data", "only-here");
    await far.server.stop();
    await rm(join(far.server.dataDirectory, "regions"), { recursive: true });
    await far.server.start();
    Object.assign(process.env, far.server.clientEnv());

    // Twice at once: one fetch.
    await Promise.all(["one", "two"].map((slug) => far.client.createVolume(slug, { from: "data-1" })));
    for (const slug of ["one", "two"])
      assert.equal(
        await far.client.with({ volumes: { "/v": slug } }, (sandbox) => shell(sandbox, "sha256sum < /v/noise")),
        sum,
      );
    const exported = await far.server.request("/api/v2/snapshots/keyed-1/export?raw=true");
    assert.equal(exported.status, 200, "one that is exported comes back as well");
    assert.ok((await exported.arrayBuffer()).byteLength > MIB);
    const mark = await far.client.with({ root: "system-1" }, (sandbox) => shell(sandbox, "cat /root/mark"));
    assert.equal(mark, "kept");
    const { id } = await far.client.rest<{ id: string }>("GET", "/api/v2/snapshots/data-1");
    const events = await far.client.rest<{ verb: string }[]>("GET", `/api/v1/events?object=${id}`);
    assert.equal(events.filter(({ verb }) => verb === "snapshot-fetch").length, 1);
    await assert.rejects(far.client.createVolume("three", { from: "only-here" }));
    await rename(directory, away);
    const [code, message] = await far.client.refused("POST", "/api/v2/volumes", {
      slug: "four",
      region: "ord",
      capacity: "300MB",
      from: "second",
    });
    assert.equal(code, "503 SNAPSHOT_STORE_UNAVAILABLE");
    assert.match(message, /directory is not there/);
    await rename(away, directory);
    await far.client.createVolume("four", { from: "second" });
    await far.client.createVolume("data-again", { from: "data-1" });
  });

  test("a verification reads everything, and says what is damaged and where", async () => {
    const whole = await far.caisson("verify", "second");
    assert.match(whole, /second +whole +(whole|missing) /);
    const { id } = await far.client.rest<{ id: string }>("GET", "/api/v2/snapshots/data-1");
    const all = join(directory, "manifests");
    const [path] = (await readdir(all, { recursive: true })).filter((name) => name.endsWith(id));
    assert.ok(path);
    const bytes = await readFile(join(all, path));
    await writeFile(join(all, path), bytes.subarray(0, -1));
    interface Verified {
      readonly store: { readonly state: string };
      readonly pool: { readonly state: string };
      readonly renewed: boolean;
    }
    const verify = () => far.client.rest<Verified>("POST", "/api/v2/snapshots/data-1/verify", {});
    const found = await verify();
    assert.deepEqual([found.store.state, found.pool.state, found.renewed], ["damaged", "whole", true]);
    await far.until("data-1", "replicated");
    const again = await verify();
    assert.deepEqual([again.store.state, again.pool.state, again.renewed], ["whole", "whole", false]);
    await writeFile(join(all, path), bytes.subarray(0, -1));
    await assert.rejects(far.caisson("verify", "data-1"), /manifest is damaged; it is uploaded again/);
    await far.until("data-1", "replicated");
    await rename(directory, away);
    await assert.rejects(far.caisson("verify"), (error: Error & { code?: number; stdout?: string }) => {
      assert.equal(error.code, 6);
      return /data-1 +unknown +unknown/.test(error.stdout ?? "") && /second +unknown/.test(error.stdout ?? "");
    });
    await rename(away, directory);
    const [code] = await far.client.refused("POST", "/api/v2/snapshots/only-here/verify", {});
    assert.equal(code, "501 NOT_SUPPORTED");
  });

  test("by policy only what is labelled goes, and what is asked for", async () => {
    await restart(`${settings}replication = "labelled"\n`);
    await far.snapshot("data-again", "plain", { mib: 1 });
    await far.snapshot("data-again", "labelled", { mib: 1 });
    await far.client.rest("PATCH", "/api/v2/snapshots/labelled", { labels: { replicate: "true" } });
    await far.until("labelled", "replicated");
    assert.equal((await far.replicationOf("plain")).state, "local");
    await far.caisson("snapshots", "replicate", "plain");
    assert.equal((await far.replicationOf("plain")).state, "replicated");
  });

  test("what was made while the settings were others goes when the server starts", async () => {
    await restart();
    await far.snapshot("data-again", "before", { mib: 1 });
    const [code, message] = await far.client.refused("POST", "/api/v2/snapshots/before/replicate", {});
    assert.equal(code, "501 NOT_SUPPORTED");
    assert.match(message, /snapshot_store\.url/);
    await restart(settings);
    await far.until("before", "replicated");
  });
});

suite("snapshots go to an S3 service", { timeout: testTimeoutMs(900_000) }, () => {
  const resources = new AsyncDisposableStack();
  let service: SeaweedServer;
  let proxy: FaultProxy;
  let far: Replicating;

  before(async () => {
    service = resources.use(await SeaweedServer.start());
    proxy = resources.use(await FaultProxy.start(service.endpoint));
    const settings = `[snapshot_store]\nurl = "s3://${service.bucket}/far"\nendpoint = "${proxy.endpoint}"\nbackup_every = "off"\n`;
    const server = resources.use(await TestServer.start({ env: service.env }));
    far = new Replicating(server);
    await server.stop();
    await server.writeSettings(settings);
    await server.start();
    await far.client.createVolume("data");
  });
  after(() => resources.disposeAsync());

  test("a server that is killed in the middle of an upload goes on where it was", async () => {
    let chunks = 0;
    const isChunk = (method: string, path: string) => method === "PUT" && path.includes("/chunks/");
    const half = Promise.withResolvers<void>();
    proxy.set(({ method, path }) => {
      if (isChunk(method, path) && ++chunks === 20) half.resolve();
      return chunks > 20 ? { kind: "delay", ms: 60_000 } : null;
    });
    await far.snapshot("data", "killed", { mib: 40 });
    await half.promise;
    await far.server.kill();
    let rest = 0;
    proxy.set(({ method, path }) => {
      if (isChunk(method, path)) rest += 1;
      return null;
    });
    await far.server.start();
    await far.until("killed", "replicated");
    assert.ok(rest > 10 && rest < 36, `${rest} of about 43 chunks were sent after the kill`);
  });

  test("what the network does to an upload harms nothing", async () => {
    const faults = [
      { kind: "answer", status: 503, code: "SlowDown" },
      { kind: "lose-answer" },
      { kind: "cut" },
      { kind: "truncate", bytes: 20 },
      { kind: "repeat" },
      { kind: "answer", status: 429, code: "TooManyRequests" },
    ] as const;
    proxy.set(({ count }) => (count % 3 === 0 ? (faults[(count / 3) % faults.length] ?? null) : null));
    await far.snapshot("data", "shaken", { mib: 8 });
    await far.until("shaken", "replicated");
    proxy.set(() => null);
  });

  test("a service that only fails, then refuses the credentials, replicates nothing until it works again", async () => {
    proxy.set(({ method }) => (method === "PUT" ? { kind: "answer", status: 507, code: "QuotaExceeded" } : null));
    await far.snapshot("data", "refused", { mib: 1 });
    await far.untilFailed("refused", /it is full/);
    proxy.set(() => ({ kind: "answer", status: 403, code: "ExpiredToken" }));
    await far.client.rest("POST", "/api/v2/snapshots/refused/replicate", {});
    await far.untilFailed("refused", /credentials have expired/);
    proxy.set(() => null);
    await far.client.rest("POST", "/api/v2/snapshots/refused/replicate", {});
    await far.until("refused", "replicated");
  });

  test("a snapshot that comes back says how far it is, until it is there", async () => {
    await far.server.stop();
    await rm(join(far.server.dataDirectory, "regions"), { recursive: true });
    await far.server.start();
    const path = "/api/v2/snapshots/killed";
    const fetchOf = async () =>
      (await far.client.extended<{ fetch: { done: number; total: number | null } | null }>("GET", path)).fetch;
    assert.equal(await fetchOf(), null);
    let chunks = 0;
    const { promise: until, resolve: goOn } = Promise.withResolvers<void>();
    proxy.set(({ method, path }) =>
      method === "GET" && path.includes("/chunks/") && ++chunks > 20 ? { kind: "hold", until } : null,
    );
    const created = far.client.createVolume("back", { from: "killed" });
    // After a failure below nobody waits for it.
    created.catch(() => {});
    try {
      const half = await eventually("some of it has come", async () => {
        const found = await fetchOf();
        return found !== null && found.done > 0 ? found : null;
      });
      assert.ok(half.total !== null && half.total > 40 * MIB && half.done < half.total, JSON.stringify(half));
      const text = await far.caisson("snapshots", "get", "killed");
      assert.match(text, /^FETCH +coming back from the snapshot store: \d+%, [\d.]+ MiB of 4[\d.]+ MiB$/m);
    } finally {
      goOn();
      proxy.set(() => null);
    }
    await created;
    assert.equal(await fetchOf(), null);
  });
});
