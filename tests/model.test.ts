import assert from "node:assert/strict";
import { after, before, suite, test } from "node:test";
import { testTimeoutMs } from "@caisson/linux/testing";
import { Sandbox } from "@deno/sandbox";
import fc from "fast-check";
import { shell, TestClient } from "./support/client.ts";
import { TestServer } from "./support/server.ts";

/** What a user has to know about one volume or snapshot to foretell everything about it. */
interface Image {
  readonly kind: "volume" | "snapshot";
  id: string;
  content: string;
  isDeleted: boolean;
  slug: string;
}

interface Model {
  /** Live and deleted ones. */
  readonly images: Image[];
  written: number;
}

interface Real {
  readonly client: TestClient;
}

const SLUGS = ["aa", "bb", "cc", "dd"] as const;
const slugArbitrary = fc.constantFrom(...SLUGS);

const live = (model: Model, slug: string) => model.images.find((image) => image.slug === slug && !image.isDeleted);
const liveVolume = (model: Model, slug: string) => {
  const image = live(model, slug);
  return image?.kind === "volume" ? image : undefined;
};

type Command = fc.AsyncCommand<Model, Real>;

/** One command: what it does to the server must be what it does to the model, refusals included. */
function command(name: string, run: (model: Model, client: TestClient) => Promise<void>): Command {
  return { check: () => true, run: (model, { client }) => run(model, client), toString: () => name };
}

const createVolume = (slug: string, from: string | null) =>
  command(`create ${slug} from ${from}`, async (model, client) => {
    const source = from === null ? undefined : live(model, from);
    const body = { slug, region: "ord", capacity: "300MB", ...(from === null ? {} : { from }) };
    if (from !== null && source?.kind !== "snapshot") {
      assert.equal((await client.refused("POST", "/api/v2/volumes", body))[0], "404 SNAPSHOT_NOT_FOUND");
    } else if (live(model, slug) !== undefined) {
      assert.equal((await client.refused("POST", "/api/v2/volumes", body))[0], "409 SLUG_ALREADY_IN_USE");
    } else {
      const { id } = await client.rest<{ id: string }>("POST", "/api/v2/volumes", body);
      model.images.push({ kind: "volume", id, slug, content: source?.content ?? "", isDeleted: false });
    }
  });

const snapshot = (volume: string, slug: string) =>
  command(`snapshot ${volume} as ${slug}`, async (model, client) => {
    const source = liveVolume(model, volume);
    const path = `/api/v2/volumes/${volume}/snapshot`;
    if (source === undefined) {
      assert.equal((await client.refused("POST", path, { slug }))[0], "404 VOLUME_NOT_FOUND");
    } else if (live(model, slug) !== undefined) {
      assert.equal((await client.refused("POST", path, { slug }))[0], "409 SLUG_ALREADY_IN_USE");
    } else {
      const { id } = await client.rest<{ id: string }>("POST", path, { slug });
      model.images.push({ kind: "snapshot", id, slug, content: source.content, isDeleted: false });
    }
  });

const remove = (slug: string) =>
  command(`delete ${slug}`, async (model, client) => {
    const image = live(model, slug);
    if (image === undefined) {
      assert.equal((await client.refused("DELETE", `/api/v2/volumes/${slug}`))[0], "404 VOLUME_NOT_FOUND");
      return;
    }
    await client.rest("DELETE", `/api/v2/${image.kind}s/${slug}`);
    image.isDeleted = true;
  });

const restore = (index: number, slug: string) =>
  command(`restore #${index} as ${slug}`, async (model, client) => {
    const deleted = model.images.filter((image) => image.isDeleted);
    const image = deleted[index % Math.max(1, deleted.length)];
    if (image === undefined) return;
    const path = `/api/v2/${image.kind}s/${image.id}/restore`;
    if (live(model, slug) !== undefined) {
      assert.equal((await client.refused("POST", path, { slug }))[0], "409 SLUG_ALREADY_IN_USE");
      return;
    }
    await client.rest("POST", path, { slug });
    image.isDeleted = false;
    image.slug = slug;
  });

const write = (slug: string) =>
  command(`write to ${slug}`, async (model, client) => {
    const volume = liveVolume(model, slug);
    if (volume === undefined) {
      assert.equal((await client.createRefused({ volumes: { "/v": slug } }))[0], "404 VOLUME_NOT_FOUND");
      return;
    }
    model.written += 1;
    const content = `write ${model.written}`;
    await client.with({ volumes: { "/v": slug } }, async (sandbox) => {
      assert.equal(await shell(sandbox, "cat /v/file 2>/dev/null || true"), volume.content);
      await sandbox.fs.writeTextFile("/v/file", content);
    });
    volume.content = content;
  });

/** A snapshot in the middle of a session holds what was synced before it and nothing of what comes after. */
const snapshotWhileWriting = (volume: string, slug: string) =>
  command(`snapshot ${volume} as ${slug} while it is written to`, async (model, client) => {
    const source = liveVolume(model, volume);
    if (source === undefined || live(model, slug) !== undefined) return;
    model.written += 1;
    const [before, later] = [`write ${model.written}`, `write ${model.written} again`];
    const sandbox = await Sandbox.create({ volumes: { "/v": volume } });
    await shell(sandbox, `printf '${before}' > /v/file && sync /v/file`);
    const { id } = await client.snapshot(volume, slug);
    await shell(sandbox, `printf '${later}' > /v/file`);
    await sandbox.kill();
    model.images.push({ kind: "snapshot", id, slug, content: before, isDeleted: false });
    source.content = later;
  });

const restart = () =>
  command("restart the server", async (_model, client) => {
    await client.server.kill();
    await client.server.start();
    Object.assign(process.env, client.server.clientEnv());
  });

const compare = () =>
  command("compare the lists", async (model, client) => {
    for (const kind of ["volume", "snapshot"] as const) {
      for (const isDeleted of [false, true]) {
        const listed = await client.rest<{ id: string; slug: string }[]>(
          "GET",
          `/api/v2/${kind}s?limit=100&deleted=${isDeleted}`,
        );
        const expected = model.images.filter((image) => image.kind === kind && image.isDeleted === isDeleted);
        assert.deepEqual(
          listed.map(({ id, slug }) => `${id} ${slug}`).sort(),
          expected.map(({ id, slug }) => `${id} ${slug}`).sort(),
        );
      }
    }
  });

suite("random sequences of operations", { timeout: testTimeoutMs(600_000) }, () => {
  let server: TestServer;
  before(async () => {
    server = await TestServer.start();
    Object.assign(process.env, server.clientEnv());
  });
  after(() => server[Symbol.asyncDispose]());

  test("the server and a simple model agree on every answer and every content", async () => {
    const commands = fc.commands(
      [
        fc.tuple(slugArbitrary, fc.option(slugArbitrary)).map(([slug, from]) => createVolume(slug, from)),
        fc.tuple(slugArbitrary, slugArbitrary).map(([volume, slug]) => snapshot(volume, slug)),
        fc.tuple(slugArbitrary, slugArbitrary).map(([volume, slug]) => snapshotWhileWriting(volume, slug)),
        slugArbitrary.map(write),
        slugArbitrary.map(remove),
        fc.tuple(fc.nat(10), slugArbitrary).map(([index, slug]) => restore(index, slug)),
        fc.constant(null).map(compare),
        fc.constant(null).map(restart),
      ],
      { maxCommands: 25, size: "max" },
    );
    await fc.assert(
      fc.asyncProperty(commands, async (sequence) => {
        const client = new TestClient(server);
        const model: Model = { images: [], written: 0 };
        await fc.asyncModelRun(() => ({ model, real: { client } }), [...sequence, compare()]);
        // Begin the next sequence with nothing, deleted ones included: their slugs are free and their ids are not in its model.
        await server.reset();
        Object.assign(process.env, server.clientEnv());
      }),
      { numRuns: Number(process.env.CAISSON_MODEL_RUNS ?? 6), endOnFailure: true },
    );
  });
});
