import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { type ClientRequest, request } from "node:http";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { after, before, suite, test } from "node:test";
import { testTimeoutMs } from "@caisson/linux/testing";
import { CHUNK_BYTES, SnapshotFileReader } from "@caisson/snapshot-store";
import { Sandbox } from "@deno/sandbox";
import { shell, TestClient } from "./support/client.ts";
import { eventually } from "./support/eventually.ts";
import { TestServer } from "./support/server.ts";
import { MadeImage } from "./support/snapshot-files.ts";

const MIB = 2 ** 20;
/** Some files for images. */
const FILES = join(import.meta.dirname, "support");

suite("snapshots leave and come", { timeout: testTimeoutMs(900_000) }, () => {
  let server: TestServer;
  let client: TestClient;

  before(async () => {
    server = await TestServer.start();
    Object.assign(process.env, server.clientEnv());
    client = new TestClient(server);
  });
  after(() => server[Symbol.asyncDispose]());

  const fetchExport = (slug: string, query = "", token = server.token) =>
    server.request(`/api/v2/snapshots/${slug}/export${query}`, { headers: { authorization: `Bearer ${token}` } });
  const exported = async (slug: string, query = ""): Promise<Buffer> => {
    const response = await fetchExport(slug, query);
    assert.equal(response.status, 200, `export of ${slug}`);
    return Buffer.from(await response.arrayBuffer());
  };
  const send = (slug: string, body: Buffer, query = ""): Promise<Response> =>
    server.request(`/api/v2/snapshots/import?slug=${slug}${query}`, {
      method: "POST",
      body: new Uint8Array(body),
      headers: { accept: "application/vnd.caisson+json" },
    });
  const imported = async (slug: string, body: Buffer, query = ""): Promise<Record<string, unknown>> => {
    const response = await send(slug, body, query);
    const answer = (await response.json()) as Record<string, unknown>;
    assert.equal(response.status, 200, JSON.stringify(answer));
    return answer;
  };
  /** `<status> <code>` and the message of an import that must be refused, which leaves nothing. */
  const refused = async (body: Buffer, query = ""): Promise<readonly [string, string]> => {
    const response = await send("refused", body, query);
    const answer = (await response.json()) as { code: string; message: string };
    assert.equal(await exists("refused"), false);
    return [`${response.status} ${answer.code}`, answer.message];
  };
  const exists = async (slug: string): Promise<boolean> =>
    (await server.request(`/api/v2/snapshots/${slug}`)).status === 200;
  const remove = async (...paths: string[]): Promise<void> => {
    for (const path of paths) await client.rest("DELETE", `/api/v2/${path}?now=true`);
  };
  const usedBytes = async (): Promise<number> => {
    const [pool] = await client.rest<{ used: number }[]>("GET", "/api/v1/pools");
    return pool?.used ?? 0;
  };
  const hashOf = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");
  /** The image in a snapshot file. */
  const imageIn = async (file: Buffer): Promise<Buffer> => {
    const reader = await SnapshotFileReader.open(inOnePiece(file));
    const image = Buffer.alloc(reader.header.sizeBytes);
    for await (const { index, bytes } of reader.chunks()) image.set(bytes, index * CHUNK_BYTES);
    return image;
  };

  /** What a snapshot file says that its image is, when all of it is verified. */
  const digestOf = async (file: Buffer): Promise<string> => {
    const reader = await SnapshotFileReader.open(inOnePiece(file));
    await Array.fromAsync(reader.chunks(), ({ index }) => index);
    return reader.imageDigest.toString("hex");
  };

  test("a snapshot of a volume in use comes back with its files, sizes and labels, and holds no more than before", async () => {
    await client.createVolume("source");
    const sandbox = await Sandbox.create({ volumes: { "/v": "source" } });
    await shell(sandbox, "head -c 5M /dev/urandom > /v/random; truncate -s 100M /v/sparse; echo kept > /v/file; sync");
    // A file that is deleted while it is open, as running programs have them.
    await sandbox.spawn("sh", { args: ["-c", "exec 3> /v/open; rm /v/open; echo x >&3; sleep 1000"], stdout: "null" });
    await eventually("the file that is deleted", async () =>
      (await shell(sandbox, "ls -l /proc/*/fd 2>/dev/null | grep -c '/v/open (deleted)' || true")) === "0"
        ? null
        : true,
    );
    const sum = await shell(sandbox, "sha256sum < /v/random");
    await client.rest("POST", "/api/v2/volumes/source/snapshot", { slug: "live", labels: { team: "a" } });
    await sandbox.kill();

    const file = await exported("live");
    assert.ok(file.length < 12 * MIB, `${file.length} bytes for 5 MiB of noise`);
    const before = await client.extended("GET", "/api/v2/snapshots/live");
    const after = await imported("copy", file);
    assert.deepEqual(after.labels, { team: "a" });
    assert.deepEqual(after.volume, { id: "", slug: "" });
    assert.deepEqual(
      [after.is_bootable, after.consistency, after.region, after.inodes, after.base_snapshot],
      [before.is_bootable, before.consistency, before.region, before.inodes, null],
    );
    const [sizeBefore, sizeAfter] = [Number(before.flattened_size), Number(after.flattened_size)];
    assert.ok(sizeAfter > 5 * MIB && sizeAfter <= sizeBefore, `${sizeBefore} bytes became ${sizeAfter}`);
    assert.equal(after.allocated_size, after.flattened_size, "it shares nothing");

    const volume = await client.createVolume("clone", { from: "copy" });
    assert.equal(volume.capacity, 300_000_000);
    await client.createVolume("larger", { from: "copy", capacity: "600MB" });
    await client.with({ volumes: { "/c": "clone", "/l": "larger" } }, async (inside) => {
      assert.equal(
        await shell(inside, "sha256sum < /c/random; cat /c/file; stat -c %s /c/sparse"),
        `${sum}\nkept\n104857600`,
      );
      assert.equal(await shell(inside, "sha256sum < /l/random"), sum);
      await shell(inside, "echo more > /c/more; test $(df --output=size -BM /l | tail -1 | tr -d M) -gt 500");
    });
    const events = await client.rest<{ verb: string; detail: object }[]>("GET", `/api/v1/events?object=${after.id}`);
    assert.deepEqual(
      events.map(({ verb }) => verb),
      ["snapshot-import"],
    );
    await remove("volumes/clone", "volumes/larger", "volumes/source", "snapshots/live", "snapshots/copy");
  });

  test("a bootable snapshot boots after its journey, and its image is the same, byte by byte", async () => {
    await client.createVolume("root", { from: "builtin:debian-13", capacity: "2GB" });
    await client.with({ root: "root" }, (sandbox) => shell(sandbox, "echo travelled > /etc/journey"));
    await client.snapshot("root", "root-1");
    const file = await exported("root-1");
    const copy = await imported("root-2", file, "&labels[from]=elsewhere&region=ord");
    assert.deepEqual([copy.is_bootable, copy.labels], [true, { from: "elsewhere" }]);
    assert.equal(await digestOf(await exported("root-2")), await digestOf(file));
    await client.with({ root: "root-2" }, async (sandbox) => {
      assert.equal(await shell(sandbox, "cat /etc/journey; python3 -c 'print(6 * 7)'"), "travelled\n42");
    });
    await client.createVolume("root-3", { from: "root-2", capacity: "3GB" });
    await client.with({ root: "root-3" }, (sandbox) => shell(sandbox, "test -s /etc/journey"));
    await remove("volumes/root-3", "volumes/root", "snapshots/root-2", "snapshots/root-1");
  });

  test("a raw image goes out and comes in; one that was made elsewhere comes in too", async () => {
    await client.createVolume("raw");
    await client.with({ volumes: { "/v": "raw" } }, (sandbox) => shell(sandbox, "echo raw > /v/file"));
    await client.snapshot("raw", "raw-1");
    const response = await fetchExport("raw-1", "?raw=true");
    assert.deepEqual(
      ["content-type", "content-length"].map((name) => response.headers.get(name)),
      ["application/octet-stream", "300000000"],
    );
    const raw = Buffer.from(await response.arrayBuffer());
    assert.equal(hashOf(raw), hashOf(await imageIn(await exported("raw-1"))));
    const copy = await imported("raw-2", raw, "&raw=1&labels[a]=b");
    assert.deepEqual([copy.is_bootable, copy.labels, copy.consistency], [false, { a: "b" }, "clean"]);
    await using made = await MadeImage.make(["-d", FILES, "-O", "^metadata_csum_seed"]);
    await imported("made", Buffer.concat([await made.bytes(), Buffer.alloc(5 * MIB, 1)]), "&raw=true");
    for (const slug of ["raw-2", "made"]) await client.createVolume(`${slug}-new`, { from: slug });
    await client.with({ volumes: { "/v": "raw-2-new", "/m": "made-new" } }, async (sandbox) => {
      assert.equal(await shell(sandbox, "cat /v/file; ls /m/eventually.ts"), "raw\n/m/eventually.ts");
    });
    assert.match((await refused(raw.subarray(0, 100 * MIB), "&raw=true"))[1], /was cut/);
    assert.match((await refused(await made.asSnapshotFile(), "&raw=true"))[1], /snapshot file: import it without/);
    assert.match((await refused(Buffer.alloc(MIB), "&raw=true"))[1], /no ext4 file system/);
    assert.match((await refused(raw))[1], /does not begin as one.*raw/);
    await remove(
      "volumes/raw",
      "volumes/raw-2-new",
      "volumes/made-new",
      "snapshots/raw-1",
      "snapshots/raw-2",
      "snapshots/made",
    );
  });

  test("a file that is damaged or cut anywhere is refused, and leaves neither a name nor a byte in the pool", async () => {
    await using made = await MadeImage.make(["-d", FILES]);
    const file = await made.asSnapshotFile();
    const used = await usedBytes();
    for (let round = 0; round < 12; round += 1) {
      const damaged = Buffer.from(file);
      const bit = Math.floor((file.length * 8 * (round + 0.5)) / 12);
      damaged[bit >> 3] = (damaged[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      assert.equal((await refused(damaged))[0], "422 INVALID_SNAPSHOT_FILE", `bit ${bit}`);
      const cut = file.subarray(0, Math.floor((file.length * round) / 12));
      assert.equal((await refused(cut))[0], "422 INVALID_SNAPSHOT_FILE", `${cut.length} bytes`);
    }
    assert.match((await refused(Buffer.concat([file, Buffer.from("more")])))[1], /something follows its end/);
    assert.match((await refused(file.subarray(0, -1)))[1], /was cut.*Export the snapshot again/);
    await eventually("the space of what was refused", async () => ((await usedBytes()) - used < MIB ? true : null));
    await imported("refused", file);
    await remove("snapshots/refused");
  });

  /** An import whose body comes when the test says so. */
  const begin = (slug: string, token = server.token): ClientRequest =>
    request(new URL(`/api/v2/snapshots/import?slug=${slug}`, server.endpoint), {
      method: "POST",
      headers: { authorization: `Bearer ${token}`, "transfer-encoding": "chunked" },
    }).on("error", () => {});
  const reserved = (slug: string) =>
    eventually(`the slug ${slug} is taken`, async () => {
      const [status] = await client.refused("POST", "/api/v2/volumes", { slug, region: "ord", capacity: "1B" });
      // The slug is looked at last, so this says nothing yet of it.
      assert.equal(status, "400 INVALID_CAPACITY");
      const response = await server.request("/api/v2/volumes", {
        method: "POST",
        json: { slug, region: "ord", capacity: "300MB" },
      });
      if (response.status === 409) return true;
      await remove(`volumes/${slug}`);
      return null;
    });

  test("an upload that breaks off leaves nothing, and its slug is free", async () => {
    await using made = await MadeImage.make(["-d", FILES]);
    const file = await made.asSnapshotFile();
    const used = await usedBytes();
    const upload = begin("broken");
    upload.write(file.subarray(0, file.length - 200));
    await reserved("broken");
    upload.destroy();
    await eventually("the end of the import", async () => {
      const response = await send("broken", file);
      return response.status === 200 ? true : null;
    });
    await remove("snapshots/broken");
    await eventually("the space of what was refused", async () => ((await usedBytes()) - used < MIB ? true : null));
    assert.doesNotMatch(server.logText(), /"level":50/, "that is no fault of the server");
  });

  test("names, limits and rights are looked at before anything is sent", async () => {
    await using made = await MadeImage.make();
    const file = await made.asSnapshotFile();
    const first = file.subarray(0, 4096);
    const early = async (slug: string): Promise<readonly [number, string]> => {
      const upload = begin(slug);
      upload.write(first);
      const [response] = await once(upload, "response");
      const answer = JSON.parse(await text(response)) as { code: string };
      upload.destroy();
      return [response.statusCode, answer.code];
    };
    assert.deepEqual(await early("No"), [400, "INVALID_SLUG"]);
    await client.createVolume("taken");
    assert.deepEqual(await early("taken"), [409, "SLUG_ALREADY_IN_USE"]);
    await remove("volumes/taken");
    assert.equal((await refused(file, "&region=zzz"))[0], "400 INVALID_REGION");
    assert.equal((await refused(file, "&bootable=true"))[0], "400 INVALID_REQUEST");
    assert.equal((await refused(file, "&raw=perhaps"))[0], "400 INVALID_REQUEST");
    assert.equal((await refused(file, `&labels[${"x".repeat(65)}]=1`))[0], "400 INVALID_LABELS");
    const huge = await made.asSnapshotFile({ sizeBytes: 2 ** 49 });
    const [status, message] = await refused(huge);
    assert.equal(status, "400 INVALID_CAPACITY");
    assert.match(message, /at most 18.63 GiB/);
    const lacking = await made.asSnapshotFile({ dataBytes: 2 ** 49 });
    assert.equal((await refused(lacking))[0], "507 STORAGE_FULL");
    const difference = await made.asSnapshotFile({ parent: "0".repeat(64) });
    assert.match((await refused(difference))[1], /difference to another snapshot/);
    assert.equal((await fetchExport("nothing")).status, 404);
    assert.equal((await fetchExport("nothing", "", "ddo_wrong")).status, 401);
    assert.equal((await server.request("/api/v2/snapshots/import?slug=refused", { method: "POST" })).status, 422);
  });

  test("nothing of another organization can be exported, and what it imports is its own", async () => {
    await client.rest("POST", "/api/v1/organizations", { slug: "other" });
    const { token } = await client.rest<{ token: string }>("POST", "/api/v1/tokens", {
      name: "a",
      organization: "other",
    });
    await using made = await MadeImage.make();
    const file = await made.asSnapshotFile();
    await imported("private", file);
    assert.equal((await fetchExport("private", "", token)).status, 404);
    const response = await server.request("/api/v2/snapshots/import?slug=private", {
      method: "POST",
      body: new Uint8Array(file),
      headers: { authorization: `Bearer ${token}` },
    });
    assert.equal(response.status, 200, "slugs are each organization's own");
    const own = await client.rest<{ slug: string }[]>("GET", "/api/v2/snapshots?search=private");
    assert.equal(own.length, 1);
    await remove("snapshots/private");
  });

  test("so many transfers run for an organization, and a transfer ends with the token that asked for it", async () => {
    const { id, token } = await client.rest<{ id: string; token: string }>("POST", "/api/v1/tokens", { name: "short" });
    await using made = await MadeImage.make(["-d", FILES]);
    const file = await made.asSnapshotFile();
    const uploads = ["one", "two"].map((slug) => begin(slug, token));
    for (const upload of uploads) upload.write(file.subarray(0, 4096));
    await reserved("one");
    await reserved("two");
    const response = await send("three", file);
    assert.deepEqual([response.status, response.headers.get("retry-after")], [429, "5"]);
    assert.equal(((await response.json()) as { code: string }).code, "TOO_MANY_TRANSFERS");
    const closed = Promise.all(uploads.map((upload) => new Promise((resolve) => upload.once("close", resolve))));
    await client.rest("DELETE", `/api/v1/tokens/${id}`);
    await closed;
    await eventually("places for others", async () => ((await send("three", file)).status === 200 ? true : null));
    for (const slug of ["one", "two"]) assert.equal(await exists(slug), false);
    await remove("snapshots/three");
  });

  test("an export goes on when its snapshot is deleted, and breaks off when it is deleted for good", async () => {
    await client.createVolume("noise");
    await client.with({ volumes: { "/v": "noise" } }, (sandbox) =>
      shell(sandbox, "head -c 150M /dev/urandom > /v/noise; sync"),
    );
    const { id } = await client.snapshot("noise", "noise-1");
    const whole = hashOf(await imageIn(await exported("noise-1")));
    const deleted = await fetchExport("noise-1");
    await client.rest("DELETE", "/api/v2/snapshots/noise-1");
    assert.equal(hashOf(await imageIn(Buffer.from(await deleted.arrayBuffer()))), whole);
    await client.rest("POST", `/api/v2/snapshots/${id}/restore`, {});
    // More than the sockets keep is left to be sent when it is deleted.
    const purged = await fetchExport("noise-1");
    await remove("snapshots/noise-1");
    await assert.rejects(purged.arrayBuffer(), "half a snapshot must not look like a whole one");
    await remove("volumes/noise");
  });

  test("a file system that was made to harm the kernel of the host is not taken, however sound its file is", async () => {
    const attempts: readonly (readonly [
      RegExp,
      (image: MadeImage) => Promise<unknown>,
      (readonly string[])?,
      number?,
    ])[] = [
      [/panic/, (image) => image.tune("-e", "panic")],
      [/mount options/, (image) => image.tune("-E", "mount_opts=errors=panic")],
      [/default mount options/, (image) => image.tune("-o", "nobarrier")],
      [/features/, (image) => image.tune("-O", "encrypt")],
      [/features/, (image) => image.tune("-O", "quota")],
      [/no journal/, (image) => image.tune("-O", "^has_journal")],
      // The number of a block device of the host as its journal.
      [/journal is elsewhere/, (image) => image.write(1024 + 0xe0, Buffer.from([0, 0, 0, 0, 0, 7, 0, 0]))],
      [/e2fsck finds errors/, (image) => image.write(4096, randomBytes(4096))],
      [/e2fsck finds errors/, (image) => image.write(1024 + 0x30, randomBytes(4))],
      // Two groups, of which the second has a sound copy of what the kernel reads in the first.
      [
        /e2fsck finds errors/,
        (image) => image.write(4096, randomBytes(4096)),
        ["-O", "^metadata_csum,^metadata_csum_seed"],
        256 * MIB,
      ],
      // What e2fsck looks at before its first pass does not show in its exit code.
      [/e2fsck finds errors/, (image) => image.write(4096 + 0x1e, randomBytes(2))],
      [/there is none/, (image) => image.write(0, Buffer.alloc(MIB))],
    ];
    for (const [reason, spoil, options = [], sizeBytes = 64 * MIB] of attempts) {
      await using image = await MadeImage.make(["-d", FILES, ...options], sizeBytes);
      await spoil(image);
      const [status, message] = await refused(await image.asSnapshotFile());
      assert.equal(status, "422 INVALID_SNAPSHOT_FILE", message);
      assert.match(message, reason);
    }
  });
});

async function* inOnePiece(file: Buffer): AsyncGenerator<Buffer> {
  yield file;
}
