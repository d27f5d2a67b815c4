import assert from "node:assert/strict";
import { after, before, suite, test } from "node:test";
import { Sandbox } from "@deno/sandbox";
import { WebSocket } from "ws";
import { shell, TestClient } from "./support/client.ts";
import { TestServer } from "./support/server.ts";

suite("volumes", () => {
  let server: TestServer;
  let client: TestClient;

  before(async () => {
    server = await TestServer.start({ settings: 'regions = ["ord", "ams"]\n' });
    Object.assign(process.env, server.clientEnv());
    client = new TestClient(server);
  });
  after(() => server[Symbol.asyncDispose]());

  const refusedCreate = async (body: unknown) => (await client.refused("POST", "/api/v2/volumes", body))[0];
  const good = { slug: "refused", region: "ord", capacity: "300MB" };

  test("bad input is refused with its own code, and nothing is left of it", async () => {
    const cases: [object | null, string][] = [
      [{ ...good, slug: undefined }, "400 INVALID_SLUG"],
      [{ ...good, slug: "" }, "400 INVALID_SLUG"],
      [{ ...good, slug: "ab--cd" }, "400 INVALID_SLUG"],
      [{ ...good, slug: "x".repeat(33) }, "400 INVALID_SLUG"],
      [{ ...good, slug: 7 }, "400 INVALID_SLUG"],
      [{ ...good, region: "zzz" }, "400 INVALID_REGION"],
      [{ ...good, region: undefined }, "400 INVALID_REGION"],
      [{ ...good, capacity: "299999999B" }, "400 INVALID_CAPACITY"],
      [{ ...good, capacity: 20_000_000_001 }, "400 INVALID_CAPACITY"],
      [{ ...good, capacity: -1 }, "400 INVALID_CAPACITY"],
      [{ ...good, capacity: 1.5 }, "400 INVALID_CAPACITY"],
      [{ ...good, capacity: "lots" }, "400 INVALID_CAPACITY"],
      [{ ...good, capacity: null }, "400 INVALID_CAPACITY"],
      [{ ...good, capacity: undefined }, "400 INVALID_CAPACITY"],
      [{ ...good, from: "nothing-here" }, "404 SNAPSHOT_NOT_FOUND"],
      [{ ...good, from: "builtin:windows" }, "404 SNAPSHOT_NOT_FOUND"],
      [{ ...good, from: "builtin:debian-13", capacity: "300MB" }, "400 INVALID_CAPACITY"],
      [{ ...good, labels: { a: 1 } }, "400 INVALID_LABELS"],
      [{ ...good, labels: { "": "x" } }, "400 INVALID_LABELS"],
      [[], "400 INVALID_REQUEST"],
      [null, "400 INVALID_REQUEST"],
    ];
    for (const [body, expected] of cases) assert.equal(await refusedCreate(body), expected, JSON.stringify(body));
    assert.deepEqual(await client.rest("GET", "/api/v2/volumes?search=refused"), []);
    assert.deepEqual(await client.rest("GET", "/api/v2/volumes?search=refused&deleted=true"), []);
  });

  test("a clone that is too small is told the size that it needs", async () => {
    const [, message] = await client.refused("POST", "/api/v2/volumes", { ...good, from: "builtin:debian-13" });
    const needed = Number(/at least (\d+) bytes/.exec(message)?.[1]);
    const volume = await client.createVolume("just-enough", { from: "builtin:debian-13", capacity: needed });
    assert.equal(volume.capacity, needed);
    await client.rest("DELETE", "/api/v2/volumes/just-enough");
  });

  test("broken requests and foreign tokens get the protocol's error form", async () => {
    const headers = { "content-type": "application/json" };
    const raw = await server.request("/api/v2/volumes", { method: "POST", body: "{", headers });
    assert.deepEqual([raw.status, ((await raw.json()) as { code: string }).code], [400, "INVALID_REQUEST"]);
    const huge = await server.request("/api/v2/volumes", { method: "POST", body: `"${"x".repeat(2 ** 21)}"`, headers });
    assert.deepEqual([huge.status, ((await huge.json()) as { code: string }).code], [413, "PAYLOAD_TOO_LARGE"]);
    for (const authorization of ["", "Bearer", "Bearer ddo_wrong", "Basic abc"]) {
      assert.equal(
        (await client.refused("GET", "/api/v2/volumes", undefined, { authorization }))[0],
        "401 INVALID_TOKEN",
      );
    }
    assert.equal((await client.refused("GET", "/api/v2/nothing"))[0], "404 NOT_FOUND");
    assert.equal((await client.refused("GET", "/api/v2/apps"))[0], "501 NOT_SUPPORTED");
    assert.equal((await client.refused("GET", "/api/v2/volumes?cursor=!"))[0], "400 INVALID_CURSOR");
  });

  test("capacity is what was asked for, as the image's size and inside", async () => {
    for (const [capacity, bytes] of [
      ["0.5GB", 5e8],
      ["300MiB", 300 * 2 ** 20],
      [512_000_123, 512_000_123],
    ] as const) {
      const volume = await client.createVolume("sized", { capacity });
      assert.equal(volume.capacity, bytes);
      await client.with({ volumes: { "/v": "sized" } }, async (sandbox) => {
        const device = Number(await shell(sandbox, "stat -f -c '%b %S' /v | awk '{print $1 * $2}'"));
        assert.ok(device > bytes * 0.9 && device <= bytes, `${device} of ${bytes}`);
      });
      await client.rest("DELETE", "/api/v2/volumes/sized");
    }
  });

  test("a mounted volume behaves like a directory of a Linux machine", async () => {
    await client.createVolume("behaves");
    await client.with({ volumes: { "/data/deep/er": "behaves" } }, async (sandbox) => {
      const script = `set -e; cd /data/deep/er; test -z "$(ls -A)"
        mkdir -p a/b/c && printf '\\0\\1\\2\\377' > a/b/c/bin && test "$(od -An -tx1 a/b/c/bin | tr -d ' ')" = 000102ff
        printf '#!/bin/sh\\necho ran' > run && chmod 750 run && test "$(./run)" = ran && test "$(stat -c %a run)" = 750
        ln run hard && test "$(stat -c %h run)" = 2 && ln -s run soft && test "$(readlink soft)" = run
        truncate -s 200M sparse && test "$(du -k sparse | cut -f1)" -lt 100
        chown 1000:1000 a && test "$(stat -c %u:%g a)" = 1000:1000
        python3 - <<'P'
import fcntl, mmap, os
with open("mapped", "w+b") as f:
    f.truncate(8192)
    m = mmap.mmap(f.fileno(), 8192); m[5000:5005] = b"hello"; m.flush(); m.close()
    f.seek(5000); assert f.read(5) == b"hello"
    fcntl.flock(f, fcntl.LOCK_EX)
    g = open("mapped", "rb")
    try:
        fcntl.flock(g, fcntl.LOCK_EX | fcntl.LOCK_NB); raise SystemExit("the lock did not hold")
    except BlockingIOError:
        pass
P
        test "$(stat -c %U:%a /data/deep/er)" = root:755`;
      await shell(sandbox, script);
    });
    await client.with({ volumes: { "/elsewhere": "behaves" } }, async (sandbox) => {
      assert.equal(
        await shell(sandbox, "cd /elsewhere && ./run && cat soft | head -c 9 && stat -c %u a"),
        "ran\n#!/bin/sh1000",
      );
    });
    await client.rest("DELETE", "/api/v2/volumes/behaves");
  });

  test("several volumes mount below each other, and bad mount paths are refused", async () => {
    for (const slug of ["outer", "inner"]) await client.createVolume(slug);
    await client.with({ volumes: { "/o/i": "inner", "/o": "outer" } }, async (sandbox) => {
      await shell(sandbox, "echo outer > /o/file; echo inner > /o/i/file; test $(stat -c %d /o) != $(stat -c %d /o/i)");
    });
    await client.with({ volumes: { "/o": "outer" } }, async (sandbox) =>
      assert.equal(await shell(sandbox, "cat /o/file; ls /o/i"), "outer"),
    );
    for (const path of [
      "/",
      "relative",
      "/proc",
      "/proc/1",
      "/sys/x",
      "/dev",
      "/.caisson",
      "/.caisson/run",
      "/usr/local/bin/deno",
      "/a/../b",
      "",
    ]) {
      assert.equal((await client.createRefused({ volumes: { [path]: "outer" } }))[0], "400 INVALID_CONFIG", path);
    }
    for (const volumes of [
      { "/a": "outer", "/a/": "inner" },
      { "/a": "outer", "/b": "outer" },
    ]) {
      assert.equal((await client.createRefused({ volumes }))[0], "400 INVALID_CONFIG");
    }
    assert.equal((await client.createRefused({ volumes: { "/a": "nothing-here" } }))[0], "404 VOLUME_NOT_FOUND");
    for (const slug of ["outer", "inner"]) await client.rest("DELETE", `/api/v2/volumes/${slug}`);
  });

  test("one writer at a time: the second is told who holds it, and gets it when the first is ending", async () => {
    const { id } = await client.createVolume("exclusive");
    const holder = await Sandbox.create({ volumes: { "/v": "exclusive" }, timeout: "60s" });
    const [code, message] = await client.createRefused({ volumes: { "/v": id } });
    assert.equal(code, "409 VOLUME_IN_USE");
    assert.match(message, new RegExp(`"exclusive".*${holder.id}`));
    assert.equal((await client.refused("DELETE", `/api/v2/volumes/${id}`))[0], "409 VOLUME_IN_USE");
    assert.equal(
      (await client.refused("POST", `/api/v2/volumes/${id}/grow`, { capacity: "600MB" }))[0],
      "409 VOLUME_IN_USE",
    );
    assert.equal((await client.extended("GET", `/api/v2/volumes/${id}`)).attached_to, holder.id);
    const killed = holder.kill();
    await client.with({ volumes: { "/v": "exclusive" } }, async () => {});
    await killed;
    await client.rest("DELETE", `/api/v2/volumes/${id}`);
  });

  test("closing a session and creating the next one on its volume at once always works", async () => {
    await client.createVolume("relay");
    for (let round = 0; round < 10; round += 1) {
      const sandbox = await Sandbox.create({ volumes: { "/v": "relay" } });
      assert.equal(await shell(sandbox, "cat /v/n 2>/dev/null || echo 0"), String(round));
      await shell(sandbox, `echo ${round + 1} > /v/n`);
      await sandbox.close();
    }
    await client.with({ volumes: { "/v": "relay" } }, async () => {});
    await client.rest("DELETE", "/api/v2/volumes/relay");
  });

  test("a volume can be deleted and grown right after its session was closed", async () => {
    await client.createVolume("closing");
    for (const use of [
      () => client.rest("POST", "/api/v2/volumes/closing/grow", { capacity: "400MB" }),
      () => client.rest("DELETE", "/api/v2/volumes/closing"),
    ]) {
      const sandbox = await Sandbox.create({ volumes: { "/v": "closing" } });
      await sandbox.close();
      await use();
    }
  });

  test("inodes: chosen or by size, counted while a sandbox writes, kept by snapshots and clones, more when it grows", async () => {
    const inodesOf = async (path: string): Promise<readonly [number, number]> => {
      const { inodes, used_inodes } = await client.extended("GET", `/api/v2/${path}`);
      return [Number(inodes), Number(used_inodes)];
    };
    const official = await client.createVolume("by-size");
    assert.ok(!("inodes" in official) && !("used_inodes" in official));
    const [bySize] = await inodesOf("volumes/by-size");
    assert.ok(Math.abs(bySize / (300e6 / 10_240) - 1) < 0.02, `${bySize}`);
    await client.createVolume("chosen", { inodes: 50_000 });
    const [chosen, fresh] = await inodesOf("volumes/chosen");
    assert.ok(chosen >= 50_000 && chosen < 50_500, `${chosen}`);
    await client.with({ volumes: { "/v": "chosen" } }, async (sandbox) => {
      assert.equal(await shell(sandbox, "df --output=itotal /v | tail -1 | tr -d ' '"), `${chosen}`);
      await shell(sandbox, "cd /v && seq 200 | xargs touch");
      // The directory for what a repair finds is gone by then.
      assert.deepEqual(await inodesOf("volumes/chosen"), [chosen, fresh + 199]);
      await client.snapshot("chosen", "chosen-1");
    });
    const listed = await client.extended<{ slug: string; used_inodes: number }[]>("GET", "/api/v2/volumes");
    assert.equal(listed.find(({ slug }) => slug === "chosen")?.used_inodes, fresh + 199);
    assert.deepEqual(await inodesOf("snapshots/chosen-1"), [chosen, fresh + 199]);
    await client.createVolume("clone", { from: "chosen-1" });
    assert.deepEqual(await inodesOf("volumes/clone"), [chosen, fresh + 199]);
    await client.createVolume("larger", { from: "chosen-1", capacity: "600MB" });
    await client.rest("POST", "/api/v2/volumes/clone/grow", { capacity: "600MB" });
    const [grown] = await inodesOf("volumes/clone");
    assert.ok(grown > 1.6 * chosen && grown < 2.4 * chosen, `${grown} after ${chosen}`);
    assert.deepEqual(await inodesOf("volumes/larger"), [grown, fresh + 199]);

    const create = { slug: "absurd", region: "ord", capacity: "300MB" };
    for (const inodes of [0, -1, 1023, 73_243, 1e12]) {
      const [code, message] = await client.refused("POST", "/api/v2/volumes", { ...create, inodes });
      assert.equal(code, "400 INVALID_REQUEST");
      assert.match(message, /give a whole number from 1024 to 73242/);
    }
    for (const inodes of [1.5, "many", Number.MAX_VALUE]) {
      assert.equal((await client.refused("POST", "/api/v2/volumes", { ...create, inodes }))[0], "400 INVALID_REQUEST");
    }
    const [code, message] = await client.refused("POST", "/api/v2/volumes", {
      ...create,
      from: "chosen-1",
      inodes: 5000,
    });
    assert.equal(code, "400 INVALID_REQUEST");
    assert.match(message, /made from "chosen-1".*Leave `inodes` out/);
    for (const path of ["volumes/by-size", "volumes/chosen", "volumes/clone", "volumes/larger", "snapshots/chosen-1"])
      await client.rest("DELETE", `/api/v2/${path}`);
  });

  test("the least and the most inodes give a file system that works and grows", async () => {
    for (const inodes of [1024, 73_242]) {
      await client.createVolume("extreme", { inodes });
      await client.rest("POST", "/api/v2/volumes/extreme/grow", { capacity: "400MB" });
      await client.with({ volumes: { "/v": "extreme" } }, async (sandbox) => {
        await shell(sandbox, "cd /v && seq 900 | xargs touch");
      });
      const { inodes: count, used_inodes: used } = await client.extended("GET", "/api/v2/volumes/extreme");
      assert.ok(Number(count) > inodes && Number(used) >= 910, `${used} of ${count}`);
      await client.rest("DELETE", "/api/v2/volumes/extreme");
    }
  });

  test("usage is measured, grows with data and shrinks when files are deleted and trimmed", async () => {
    const { id } = await client.createVolume("usage");
    const used = async () => Number((await client.extended("GET", `/api/v2/volumes/${id}`)).used);
    const blank = await used();
    assert.ok(blank > 0 && blank < 20e6, String(blank));
    await client.with({ volumes: { "/v": "usage" } }, async (sandbox) => {
      await shell(sandbox, "head -c 50M /dev/urandom > /v/data && sync");
      const full = await used();
      assert.ok(full > blank + 50e6 && full < blank + 60e6, String(full));
    });
    assert.ok((await used()) > 50e6, "still counted after the sandbox ended");
    await client.with({ volumes: { "/v": "usage" } }, (sandbox) => shell(sandbox, "rm /v/data && sync"));
    assert.ok((await used()) < blank + 5e6, `${await used()} bytes after deleting`);
    await client.rest("DELETE", `/api/v2/volumes/${id}`);
  });

  test("a deleted volume is gone at once, its slug is free, and it can be restored with its data", async () => {
    const { id } = await client.createVolume("undone");
    await client.with({ volumes: { "/v": "undone" } }, (sandbox) => shell(sandbox, "echo kept > /v/file"));
    await client.rest("DELETE", "/api/v2/volumes/undone");
    assert.equal((await client.refused("GET", `/api/v2/volumes/${id}`))[0], "404 VOLUME_NOT_FOUND");
    assert.equal((await client.createRefused({ volumes: { "/v": id } }))[0], "404 VOLUME_NOT_FOUND");
    const [deleted] = await client.extended<{ id: string; deleted_at: string; purge_at: string }[]>(
      "GET",
      "/api/v2/volumes?deleted=true&search=undone",
    );
    assert.equal(deleted?.id, id);
    const listed = (value: string) =>
      client.rest<{ id: string }[]>("GET", `/api/v2/volumes?deleted=${value}&search=undone`);
    assert.deepEqual(
      (await listed("1")).map((volume) => volume.id),
      [id],
    );
    for (const no of ["0", "false"]) assert.deepEqual(await listed(no), []);
    const [code, message] = await client.refused("GET", "/api/v2/volumes?deleted=yes");
    assert.equal(code, "400 INVALID_REQUEST");
    assert.match(message, /"deleted" is "yes": give true or false/);
    assert.equal(Date.parse(deleted.purge_at) - Date.parse(deleted.deleted_at), 24 * 3_600_000);
    await client.createVolume("undone");
    assert.equal((await client.refused("POST", `/api/v2/volumes/${id}/restore`))[0], "409 SLUG_ALREADY_IN_USE");
    const restored = await client.rest("POST", `/api/v2/volumes/${id}/restore`, { slug: "undone-2" });
    assert.deepEqual([restored.id, restored.slug], [id, "undone-2"]);
    assert.equal((await client.refused("POST", `/api/v2/volumes/${id}/restore`))[0], "404 VOLUME_NOT_FOUND");
    await client.with({ volumes: { "/v": "undone-2" } }, async (sandbox) =>
      assert.equal(await shell(sandbox, "cat /v/file"), "kept"),
    );
    for (const slug of ["undone", "undone-2"]) await client.rest("DELETE", `/api/v2/volumes/${slug}`);
  });

  test("a volume grows with its file system and its data, never shrinks, and repeating is harmless", async () => {
    await client.createVolume("grows");
    await client.with({ volumes: { "/v": "grows" } }, (sandbox) => shell(sandbox, "echo kept > /v/file"));
    for (const capacity of ["1GB", "1GB"])
      assert.equal((await client.rest("POST", "/api/v2/volumes/grows/grow", { capacity })).capacity, 1e9);
    assert.equal(
      (await client.refused("POST", "/api/v2/volumes/grows/grow", { capacity: "500MB" }))[0],
      "400 INVALID_CAPACITY",
    );
    assert.equal(
      (await client.refused("POST", "/api/v2/volumes/grows/grow", { capacity: "21GB" }))[0],
      "400 INVALID_CAPACITY",
    );
    await client.with({ volumes: { "/v": "grows" } }, async (sandbox) => {
      assert.equal(
        await shell(
          sandbox,
          "cat /v/file && test $(df --output=size -BM /v | tail -1 | tr -dc 0-9) -gt 850 && echo big",
        ),
        "kept\nbig",
      );
    });
    await client.rest("DELETE", "/api/v2/volumes/grows");
  });

  test("readers share a volume while nobody writes to it", async () => {
    await client.createVolume("shared");
    await client.with({ volumes: { "/v": "shared" } }, (sandbox) => shell(sandbox, "echo shared > /v/file"));
    const config = { volumes: [{ volume: "shared", path: "/v", read_only: true }], timeout: "60s" };
    const readers = await Promise.all([rawCreate(server, config), rawCreate(server, config)]);
    for (const id of readers) {
      const sandbox = await Sandbox.connect({ id });
      assert.equal(
        await shell(sandbox, "cat /v/file; touch /v/x 2>&1 || true"),
        "shared\ntouch: cannot touch '/v/x': Read-only file system",
      );
      await sandbox.close();
    }
    assert.equal((await client.createRefused({ volumes: { "/v": "shared" } }))[0], "409 VOLUME_IN_USE");
    for (const id of readers) await client.rest("DELETE", `/api/v3/sandbox/${id}`);
    await client.with({ volumes: { "/v": "shared" } }, (sandbox) => shell(sandbox, "echo again > /v/file"));
    await client.rest("DELETE", "/api/v2/volumes/shared");
  });

  test("labels are kept, replaced, filtered by, and unseen by official clients", async () => {
    const { id } = await client.createVolume("labelled", { labels: { team: "red", "a b": "ü" } });
    assert.equal("labels" in (await client.rest("GET", `/api/v2/volumes/${id}`)), false);
    assert.equal((await client.rest<unknown[]>("GET", "/api/v2/volumes?labels[team]=red&labels[a b]=ü")).length, 1);
    await client.rest("PATCH", `/api/v2/volumes/${id}`, { labels: { team: "blue" } });
    assert.equal((await client.rest<unknown[]>("GET", "/api/v2/volumes?labels[team]=red")).length, 0);
    assert.deepEqual((await client.extended("GET", `/api/v2/volumes/${id}`)).labels, { team: "blue" });
    assert.equal(
      (await client.refused("PATCH", `/api/v2/volumes/${id}`, { labels: { a: "x".repeat(129) } }))[0],
      "400 INVALID_LABELS",
    );
    await client.rest("DELETE", `/api/v2/volumes/${id}`);
  });

  test("an idempotency key makes a repeated create answer as the first did", async () => {
    const headers = { "idempotency-key": "once" };
    const body = { slug: "once", region: "ord", capacity: "300MB" };
    const answers = await Promise.all(
      Array.from({ length: 5 }, () => client.rest("POST", "/api/v2/volumes", body, headers)),
    );
    assert.equal(new Set(answers.map((volume) => volume.id)).size, 1);
    assert.equal(
      (await client.refused("POST", "/api/v2/volumes", { ...body, slug: "twice" }, headers))[0],
      "409 IDEMPOTENCY_KEY_REUSED",
    );
    await client.rest("DELETE", "/api/v2/volumes/once");
  });

  test("of 50 creates with one slug exactly one wins", async () => {
    const results = await Promise.all(
      Array.from({ length: 50 }, () =>
        server.request("/api/v2/volumes", {
          method: "POST",
          json: { slug: "contested", region: "ord", capacity: "300MB" },
        }),
      ),
    );
    const statuses = results.map((response) => response.status).sort();
    assert.deepEqual(statuses, [200, ...Array<number>(49).fill(409)]);
    await client.rest("DELETE", "/api/v2/volumes/contested");
  });

  test("regions keep apart: a sandbox takes that of its volumes, and two at once are refused", async () => {
    await client.createVolume("in-ord");
    await client.createVolume("in-ams", { region: "ams" });
    await client.with({ volumes: { "/v": "in-ams" } }, async (sandbox) => assert.match(sandbox.id, /^sbx_ams_/));
    assert.equal(
      (await client.createRefused({ volumes: { "/a": "in-ams", "/b": "in-ord" } }))[0],
      "400 REGION_MISMATCH",
    );
    await client.snapshot("in-ams", "in-ams-snap");
    assert.equal(await refusedCreate({ ...good, from: "in-ams-snap" }), "400 REGION_MISMATCH");
    for (const path of ["volumes/in-ord", "volumes/in-ams", "snapshots/in-ams-snap"])
      await client.rest("DELETE", `/api/v2/${path}`);
  });

  test("organizations see nothing of each other", async () => {
    await client.createVolume("private");
    await client.rest("POST", "/api/v1/organizations", { slug: "other" });
    const { token } = await client.rest<{ token: string }>("POST", "/api/v1/tokens", {
      name: "t",
      organization: "other",
    });
    const headers = { authorization: `Bearer ${token}` };
    assert.deepEqual(await client.rest("GET", "/api/v2/volumes", undefined, headers), []);
    assert.equal(
      (await client.refused("GET", "/api/v2/volumes/private", undefined, headers))[0],
      "404 VOLUME_NOT_FOUND",
    );
    assert.equal(
      (await client.refused("DELETE", "/api/v2/volumes/private", undefined, headers))[0],
      "404 VOLUME_NOT_FOUND",
    );
    assert.equal(
      (await client.refused("POST", "/api/v1/organizations", { slug: "third" }, headers))[0],
      "403 FORBIDDEN",
    );
    assert.equal(
      (await client.refused("GET", "/api/v2/volumes", undefined, { "x-deno-org": "other" }))[0],
      "403 FORBIDDEN",
    );
    await client.rest("POST", "/api/v2/volumes", { slug: "private", region: "ord", capacity: "300MB" }, headers);
    const [own] = await client.rest<{ id: string; name: string }[]>("GET", "/api/v1/tokens", undefined, headers);
    await client.rest("DELETE", `/api/v1/tokens/${own?.id}`, undefined, headers);
    assert.equal((await client.refused("GET", "/api/v2/volumes", undefined, headers))[0], "401 INVALID_TOKEN");
    await client.rest("DELETE", "/api/v2/volumes/private");
  });

  test("a full volume is full inside, loses nothing, and deleting makes room", async () => {
    await client.createVolume("tight");
    await client.with({ volumes: { "/v": "tight" } }, async (sandbox) => {
      const script = `echo before > /v/kept; cat /dev/zero > /v/fill 2>/tmp/err || true; grep -q 'No space left on device' /tmp/err
        test "$(cat /v/kept)" = before; rm /v/fill; head -c 100M /dev/zero > /v/again && sync`;
      await shell(sandbox, script);
    });
    await client.rest("DELETE", "/api/v2/volumes/tight");
  });
});

/** Creates a duration sandbox with a configuration that the official client cannot express, and returns its id. */
async function rawCreate(server: TestServer, config: object): Promise<string> {
  const socket = new WebSocket(`${server.endpoint.replace("http", "ws")}/api/v3/sandboxes/create`, {
    headers: {
      authorization: `Bearer ${server.token}`,
      "x-deno-sandbox-config": Buffer.from(JSON.stringify(config)).toString("base64"),
    },
  });
  const id = await new Promise<string>((resolve, reject) => {
    socket.on("upgrade", (response) => resolve(String(response.headers["x-deno-sandbox-id"])));
    socket.on("error", reject);
  });
  if (socket.readyState !== WebSocket.OPEN) await new Promise((resolve) => socket.once("open", resolve));
  socket.close();
  return id;
}
