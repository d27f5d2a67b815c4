import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import { Sandbox } from "@deno/sandbox";
import { FaultPlan, type FaultPoint } from "./support/fault-plan.ts";
import { TestServer } from "./support/server.ts";

/**
 * The server is killed at fault points of every operation, started again, and must then keep every promise of GUARANTEES.md: what was
 * acknowledged is whole, what was not is either there as a whole or not at all, nothing leaks, and the same names work again. Every point is
 * tried with CAISSON_CRASH_FULL=1 (npm run test:crash), else a sample that changes from run to run and is printed.
 */
const isFull = process.env.CAISSON_CRASH_FULL === "1";
const SAMPLE_SIZE = 4;

interface Operation {
  readonly name: string;
  /** Brings about what the operation needs. Names carry `id`, so that one try does not meet another's objects. */
  prepare(id: string): Promise<void>;
  /** Resolves when the operation was acknowledged. */
  run(id: string): Promise<void>;
  /** After the restart: checks the outcome, then does the operation again on the same names. */
  verify(id: string, isAcknowledged: boolean): Promise<void>;
}

/** Trying every point of one operation takes minutes. */
const TIMEOUT_MS = 3_600_000;

suite("the server dies at any instruction", { timeout: TIMEOUT_MS }, () => {
  let directory: string;
  let plan: FaultPlan;
  let server: TestServer;
  let open: Sandbox[] = [];
  const witness = randomBytes(1 << 20);

  before(async () => {
    directory = await mkdtemp(join(tmpdir(), "caisson-crash-"));
    plan = new FaultPlan(directory);
    await plan.reset();
    server = await TestServer.start({ env: plan.env });
    Object.assign(process.env, server.clientEnv());
    await createVolume("witness");
    await inSandbox({ "/w": "witness" }, (sandbox) => sandbox.fs.writeFile("/w/data", witness));
  });
  after(async () => {
    await server[Symbol.asyncDispose]();
    await rm(directory, { recursive: true });
  });

  const rest = async (method: string, path: string, json?: unknown): Promise<unknown> => {
    const response = await server.request(path, { method, json });
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${await response.text()}`);
    return response.status === 204 ? null : response.json();
  };
  const createVolume = (slug: string, values: object = {}) =>
    rest("POST", "/api/v2/volumes", { slug, region: "ord", capacity: "300MB", ...values });
  const exists = async (kind: "volumes" | "snapshots", slug: string) =>
    (await server.request(`/api/v2/${kind}/${slug}`)).status === 200;

  const openSandbox = async (options: Parameters<typeof Sandbox.create>[0]): Promise<Sandbox> => {
    const sandbox = await Sandbox.create(options);
    open.push(sandbox);
    return sandbox;
  };
  const inSandbox = async <T>(
    volumes: Record<string, string>,
    work: (sandbox: Sandbox) => Promise<T>,
    root?: string,
  ): Promise<T> => {
    const sandbox = await openSandbox({ volumes, ...(root === undefined ? {} : { root }) });
    const result = await work(sandbox);
    await sandbox.kill();
    return result;
  };
  /** The volume mounts, holds what it should, and takes a write. */
  const assertUsable = (slug: string, expected?: string) =>
    inSandbox({ "/v": slug }, async (sandbox) => {
      if (expected !== undefined) assert.equal(await sandbox.fs.readTextFile("/v/file"), expected);
      await sandbox.fs.writeTextFile("/v/file", "written after the crash");
      assert.equal((await sandbox.sh`df --output=size /v | tail -1`.text()).trim() === "0", false);
    });
  const inRestrictedSandbox = async (): Promise<void> => {
    const sandbox = await openSandbox({ allowNet: ["192.0.2.1:443"] });
    assert.equal(await sandbox.sh`echo restricted`.text(), "restricted\n");
    await sandbox.kill();
  };
  const fill = (slug: string, text: string) =>
    inSandbox({ "/v": slug }, (sandbox) => sandbox.fs.writeTextFile("/v/file", text));

  const creation = (
    name: string,
    kind: "volumes" | "snapshots",
    prepare: (id: string) => Promise<unknown>,
    create: (id: string) => Promise<unknown>,
    check: (id: string) => Promise<unknown>,
  ): Operation => ({
    name,
    prepare: async (id) => void (await prepare(id)),
    run: async (id) => void (await create(id)),
    async verify(id, isAcknowledged) {
      const isThere = await exists(kind, id);
      assert.ok(isThere || !isAcknowledged, "what was acknowledged is gone");
      if (!isThere) await create(id);
      await check(id);
    },
  });
  const none = async () => {};

  const operations: readonly Operation[] = [
    creation(
      "volume create, blank",
      "volumes",
      none,
      (id) => createVolume(id),
      (id) => assertUsable(id),
    ),
    creation(
      "volume create, from the built-in image and larger",
      "volumes",
      none,
      (id) => createVolume(id, { from: "builtin:debian-13", capacity: "5GB" }),
      (id) =>
        inSandbox(
          {},
          (sandbox) =>
            sandbox.sh`df --output=size -B1 / | tail -1`.text().then((text) => assert.ok(Number(text) > 4e9)),
          id,
        ),
    ),
    creation(
      "volume create, from a snapshot",
      "volumes",
      async (id) => {
        await createVolume(`${id}-src`);
        await fill(`${id}-src`, id);
        await rest("POST", `/api/v2/volumes/${id}-src/snapshot`, { slug: `${id}-snp` });
      },
      (id) => createVolume(id, { from: `${id}-snp` }),
      (id) => assertUsable(id, id),
    ),
    creation(
      "snapshot of a detached volume",
      "snapshots",
      async (id) => {
        await createVolume(`${id}-src`);
        await fill(`${id}-src`, id);
      },
      (id) => rest("POST", `/api/v2/volumes/${id}-src/snapshot`, { slug: id }),
      async (id) => {
        await createVolume(`${id}-new`, { from: id });
        await assertUsable(`${id}-new`, id);
        await assertUsable(`${id}-src`, id);
      },
    ),
    creation(
      "snapshot of a volume that is being written to",
      "snapshots",
      async (id) => {
        await createVolume(`${id}-src`);
        const sandbox = await openSandbox({ volumes: { "/v": `${id}-src` } });
        await sandbox.fs.writeTextFile("/v/file", id);
        await sandbox.sh`sync`;
        await sandbox.spawn("sh", { args: ["-c", "while :; do date >> /v/log; done"], stdout: "null", stderr: "null" });
      },
      (id) => rest("POST", `/api/v2/volumes/${id}-src/snapshot`, { slug: id }),
      async (id) => {
        await createVolume(`${id}-new`, { from: id });
        await assertUsable(`${id}-new`, id);
        await assertUsable(`${id}-src`, id);
      },
    ),
    {
      name: "volume grow",
      async prepare(id) {
        await createVolume(id);
        await fill(id, id);
      },
      run: async (id) => void (await rest("POST", `/api/v2/volumes/${id}/grow`, { capacity: "600MB" })),
      async verify(id, isAcknowledged) {
        const volume = (await rest("GET", `/api/v2/volumes/${id}`)) as { capacity: number };
        assert.ok(
          volume.capacity === 600e6 || (!isAcknowledged && volume.capacity === 300e6),
          `capacity ${volume.capacity}`,
        );
        await rest("POST", `/api/v2/volumes/${id}/grow`, { capacity: "600MB" });
        await inSandbox({ "/v": id }, async (sandbox) => {
          assert.equal(await sandbox.fs.readTextFile("/v/file"), id);
          assert.ok(Number(await sandbox.sh`df --output=size -B1 /v | tail -1`.text()) > 500e6);
        });
      },
    },
    {
      name: "volume delete",
      prepare: async (id) => void (await createVolume(id)),
      run: async (id) => void (await rest("DELETE", `/api/v2/volumes/${id}`)),
      async verify(id, isAcknowledged) {
        const isThere = await exists("volumes", id);
        assert.ok(!isThere || !isAcknowledged, "what was deleted is back");
        if (isThere) await rest("DELETE", `/api/v2/volumes/${id}`);
        await createVolume(id);
      },
    },
    {
      name: "volume restore",
      async prepare(id) {
        await createVolume(id);
        await fill(id, id);
        await rest("DELETE", `/api/v2/volumes/${id}`);
      },
      run: (id) => restore(id),
      async verify(id, isAcknowledged) {
        const isThere = await exists("volumes", id);
        assert.ok(isThere || !isAcknowledged, "what was restored is gone");
        if (!isThere) await restore(id);
        await assertUsable(id, id);
      },
    },
    {
      name: "sandbox create with a volume",
      prepare: async (id) => void (await createVolume(id)),
      run: async (id) => void (await openSandbox({ volumes: { "/v": id } })),
      verify: (id) => assertUsable(id),
    },
    {
      name: "sandbox end",
      async prepare(id) {
        await createVolume(id);
        const sandbox = await openSandbox({ volumes: { "/v": id } });
        await sandbox.fs.writeTextFile("/v/file", id);
        await sandbox.sh`sync`;
      },
      run: async () => void (await open.at(-1)?.kill()),
      verify: (id) => assertUsable(id, id),
    },
    {
      name: "sandbox with a list of hosts, created and ended",
      prepare: none,
      run: () => inRestrictedSandbox(),
      verify: () => inRestrictedSandbox(),
    },
    {
      name: "purge, and settling at the start",
      async prepare(id) {
        await createVolume(id);
        await server.stop();
        await writeFile(join(server.dataDirectory, "caisson.toml"), "[volumes]\nretention_hours = 0\n");
        await server.start();
        await rest("DELETE", `/api/v2/volumes/${id}`);
        await server.stop();
        await rm(join(server.dataDirectory, "caisson.toml"));
      },
      run: () => server.start(),
      async verify(id) {
        assert.equal(await exists("volumes", id), false);
        await createVolume(id);
      },
    },
  ];

  const restore = async (slug: string): Promise<void> => {
    const deleted = (await rest("GET", `/api/v2/volumes?deleted=true&search=${slug}`)) as { id: string }[];
    await rest("POST", `/api/v2/volumes/${deleted[0]?.id}/restore`, {});
  };

  /** Runs the operation with nothing planned and returns the points that it passes. */
  async function trace(operation: Operation, id: string): Promise<readonly FaultPoint[]> {
    await operation.prepare(id);
    await plan.reset();
    await operation.run(id);
    return plan.passed();
  }

  async function crashAt(operation: Operation, point: FaultPoint, id: string): Promise<void> {
    await operation.prepare(id);
    await plan.killAt(point);
    // A client may wait for ever when its server dies in the middle of an upgrade, so the server's end counts as the answer.
    const died = server.isRunning
      ? server.exited().then(() => Promise.reject(new Error("the server died")))
      : new Promise<never>(() => {});
    const isAcknowledged = await Promise.race([operation.run(id), died]).then(
      () => true,
      () => false,
    );
    await server.kill();
    for (const sandbox of open) await sandbox.close().catch(() => {});
    open = [];
    await plan.reset();
    await server.start();
    Object.assign(process.env, server.clientEnv());
    assert.doesNotMatch(server.logText(), /the database does not know|missing from the pool/);
    const found = await inSandbox({ "/w": "witness" }, (sandbox) => sandbox.fs.readFile("/w/data"));
    assert.equal(createHash("sha256").update(found).digest("hex"), createHash("sha256").update(witness).digest("hex"));
    await operation.verify(id, isAcknowledged);
  }

  for (const [index, operation] of operations.entries()) {
    test(operation.name, { timeout: TIMEOUT_MS }, async (context) => {
      const points = await trace(operation, `op${index}`);
      assert.ok(points.length > 0, "the operation passes no fault point");
      const chosen = isFull ? points : sample(points, SAMPLE_SIZE);
      context.diagnostic(
        `${chosen.length} of ${points.length} points: ${chosen.map(({ tag, occurrence }) => `${tag}#${occurrence}`).join(" ")}`,
      );
      for (const [attempt, point] of chosen.entries()) {
        await context.test(`killed at ${point.tag} #${point.occurrence}`, () =>
          crashAt(operation, point, `op${index}-${attempt}`),
        );
      }
    });
  }
});

function sample<T>(items: readonly T[], count: number): readonly T[] {
  const rest = [...items];
  const chosen: T[] = [];
  while (chosen.length < count && rest.length > 0)
    chosen.push(...rest.splice(Math.floor(Math.random() * rest.length), 1));
  return chosen;
}
