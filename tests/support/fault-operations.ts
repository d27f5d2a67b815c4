import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { readdir, readFile, readlink, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { createKey, createSigningRequest } from "@caisson/certificates";
import type { Sandbox } from "@deno/sandbox";
import { eventually } from "./eventually.ts";
import type { FaultHarness } from "./fault-harness.ts";
import { PreviewClient } from "./preview-client.ts";

/** Something that a user does, with all that is needed to see whether a fault in it did harm. */
export interface FaultOperation {
  readonly name: string;
  /** The operation is the start of the server, which may fail. Every other one must leave the server running. */
  readonly isStart?: boolean;
  /** Brings about what the operation needs. Names carry `id`, so that one try does not meet another's objects. */
  prepare(id: string): Promise<void>;
  /** Resolves when the operation was acknowledged. */
  run(id: string): Promise<void>;
  /** After the fault: checks the outcome, then does the operation again on the same names. */
  verify(id: string, isAcknowledged: boolean): Promise<void>;
}

const STORE = "/api/v1/snapshot-store";
const AUTHORITY = "/api/v1/nodes/authority";

interface AuthorityShown {
  readonly authorities: readonly { readonly number: number }[];
}

const nothing = async (): Promise<void> => {};

/** Scatters a volume that is mounted at /v: what is overwritten after `snapshot` lies elsewhere, block by block. */
async function scatter(sandbox: Sandbox, snapshot: () => Promise<unknown>): Promise<void> {
  await sandbox.sh`head -c 4M /dev/urandom > /v/large; sync`;
  await snapshot();
  const script = `
import os
file = os.open("/v/large", os.O_RDWR)
for index in range(400):
    os.pwrite(file, bytes([7]) * 4096, index * 8192)
os.fsync(file)`;
  await sandbox.sh`python3 -c ${script}`;
}

/** Every operation of the server, on a harness. */
export function faultOperations(harness: FaultHarness): readonly FaultOperation[] {
  const joining = new Map<string, { readonly secret: string; readonly request: string }>();
  const authorityNumbers = new Map<string, number>();
  const retireAuthority = async () => void (await harness.rest("POST", `${AUTHORITY}/retire`, { lock_out: true }));
  const renewAuthority = async () => {
    await harness.rest("POST", `${AUTHORITY}/renew`);
    await retireAuthority();
  };
  const addressOf = (id: string): string => `${id}.invalid:1`;
  const joinAs = async (id: string): Promise<string> => {
    const { secret, request } = joining.get(id) ?? { secret: "", request: "" };
    const response = await harness.server.request("/v3/nodes/join", {
      method: "POST",
      json: { signing_request: request, address: addressOf(id) },
      headers: { authorization: `Bearer ${secret}` },
    });
    const { node_id: nodeId } = (await response.json()) as { node_id?: string };
    assert.ok(nodeId !== undefined, `joining: ${response.status}`);
    return nodeId;
  };
  const backupIds = new Map<string, string>();
  const makeBackup = async (id: string): Promise<void> => {
    backupIds.set(id, (await harness.rest<{ id: string }>("POST", "/api/v1/backups", {})).id);
  };
  const creation = (
    name: string,
    kind: "volumes" | "snapshots",
    prepare: (id: string) => Promise<unknown>,
    create: (id: string) => Promise<unknown>,
    check: (id: string) => Promise<unknown>,
    verb = `${kind.slice(0, -1)}-create`,
  ): FaultOperation => ({
    name,
    prepare: async (id) => void (await prepare(id)),
    run: async (id) => void (await create(id)),
    async verify(id, isAcknowledged) {
      const isThere = await harness.exists(kind, id);
      assert.ok(isThere || !isAcknowledged, "what was acknowledged is gone");
      if (!isThere) await create(id);
      const { id: objectId } = await harness.rest<{ id: string }>("GET", `/api/v2/${kind}/${id}`);
      await harness.assertRecorded(objectId, verb);
      await check(id);
    },
  });

  const prepareFilled = async (slug: string, text: string): Promise<void> => {
    await harness.client.createVolume(slug);
    await harness.fill(slug, text);
  };
  const schedule = (slug: string, every: string | null) =>
    harness.rest<{ id: string }>("POST", `/api/v2/volumes/${slug}/schedule`, { every });
  /** Until the schedule's first snapshot is in the store, which a failure puts off. */
  const untilScheduled = (slug: string) =>
    eventually(
      `a snapshot of ${slug} in the store`,
      async () =>
        (await harness.client.extended<{ replicated_at: string | null }>("GET", `/api/v2/volumes/${slug}`))
          .replicated_at,
      60_000,
    );
  const automaticOf = async (slug: string) =>
    (
      await harness.client.extended<{ id: string; slug: string; automatic: boolean; volume: { slug: string } }[]>(
        "GET",
        "/api/v2/snapshots?limit=100&search=auto-",
      )
    ).filter(({ automatic, volume }) => automatic && volume.slug === slug);
  const grow = (slug: string) => harness.rest("POST", `/api/v2/volumes/${slug}/grow`, { capacity: "600MB" });
  const assertSnapshotUsable = async (id: string): Promise<void> => {
    await harness.client.createVolume(`${id}-new`, { from: id });
    await harness.assertUsable(`${id}-new`, id);
    await harness.assertUsable(`${id}-src`, id);
  };
  /** A snapshot of a volume with a file, while a program goes on writing. `settle` puts the volume into the state that it is taken in. */
  const liveSnapshot = (name: string, settle: (sandbox: Sandbox, id: string) => PromiseLike<unknown>): FaultOperation =>
    creation(
      name,
      "snapshots",
      async (id) => {
        await harness.client.createVolume(`${id}-src`);
        const sandbox = await harness.openSandbox({ volumes: { "/v": `${id}-src` } });
        await sandbox.fs.writeTextFile("/v/file", id);
        await settle(sandbox, id);
        await sandbox.spawn("sh", { args: ["-c", "while :; do date >> /v/log; done"], stdout: "null", stderr: "null" });
      },
      (id) => harness.client.snapshot(`${id}-src`, id),
      async (id) => {
        await harness.closeClients();
        await harness.assertNoSandboxes();
        await assertSnapshotUsable(id);
      },
    );
  /** What volumes and snapshots have in common: delete, restore, labels. */
  const ofDisks = (
    kind: "volume" | "snapshot",
    prepareSource: (id: string) => Promise<unknown>,
    make: (id: string) => Promise<unknown>,
    check: (id: string) => Promise<unknown>,
  ): readonly FaultOperation[] => {
    const path = `/api/v2/${kind}s`;
    const exists = (id: string) => harness.exists(`${kind}s`, id);
    const remove = async (id: string) => void (await harness.rest("DELETE", `${path}/${id}`));
    const restore = async (id: string): Promise<void> => {
      const deleted = await harness.rest<{ id: string; slug: string }[]>("GET", `${path}?deleted=true&search=${id}`);
      await harness.rest("POST", `${path}/${deleted.find(({ slug }) => slug === id)?.id}/restore`, {});
    };
    const label = async (id: string) =>
      void (await harness.rest("PATCH", `${path}/${id}`, { labels: { kind: "test" } }));
    const prepare = async (id: string): Promise<void> => {
      await prepareSource(id);
      await make(id);
    };
    return [
      {
        name: `${kind} delete`,
        prepare,
        run: remove,
        async verify(id, isAcknowledged) {
          const isThere = await exists(id);
          assert.ok(!isThere || !isAcknowledged, "what was deleted is back");
          if (isThere) await remove(id);
          await make(id);
          await check(id);
        },
      },
      {
        name: `${kind} restore`,
        async prepare(id) {
          await prepare(id);
          await remove(id);
        },
        run: restore,
        async verify(id, isAcknowledged) {
          const isThere = await exists(id);
          assert.ok(isThere || !isAcknowledged, "what was restored is gone");
          if (!isThere) await restore(id);
          await check(id);
        },
      },
      {
        name: `${kind} labels`,
        prepare,
        run: label,
        async verify(id, isAcknowledged) {
          const found = await harness.client.extended<{ id: string; labels: object }>("GET", `${path}/${id}`);
          const isLabelled = "kind" in found.labels;
          assert.ok(isLabelled || !isAcknowledged, "labels that were set are gone");
          if (!isLabelled) await label(id);
          await harness.assertRecorded(found.id, `${kind}-label`);
        },
      },
    ];
  };
  const tokenNamed = async (name: string): Promise<string | undefined> => {
    const tokens = await harness.rest<{ id: string; name: string }[]>("GET", "/api/v1/tokens");
    return tokens.find((token) => token.name === name)?.id;
  };
  const tokenIds = new Map<string, string>();
  const revoke = async (id: string) => void (await harness.rest("DELETE", `/api/v1/tokens/${tokenIds.get(id)}`));
  const diskIds = new Map<string, string>();
  const nodeIds = new Map<string, string>();
  const readNodeId = async (): Promise<string> =>
    JSON.parse(await readFile(join(harness.server.dataDirectory, "node.json"), "utf8")).id;

  const exported = new Map<string, Uint8Array<ArrayBuffer>>();
  const importSnapshot = async (id: string): Promise<void> => {
    const path = `/api/v2/snapshots/import?slug=${id}`;
    const response = await harness.server.request(path, { method: "POST", body: exported.get(id) ?? null });
    assert.ok(response.ok, `${response.status} ${await response.text()}`);
  };
  const poolFile = () => join(harness.server.dataDirectory, "regions", "ord", "pool", "pool.xfs");
  const growPool = () => harness.rest("POST", "/api/v1/pools/grow", {});
  /** A crash leaves no open sandbox to take the id from. */
  const sandboxIds = new Map<string, string>();
  const extendTo = Date.now() + 20 * 60_000;
  const readKeyFile = (name: string) => readFile(join(harness.server.dataDirectory, "keys", name), "utf8");
  const rotateKey = async (): Promise<void> => {
    await harness.rest("POST", `${STORE}/rotate-key`, {});
    const exported = (await readKeyFile("installation.key.next")).trim().slice("caisson-key-1:".length);
    const proof = createHmac("sha256", Buffer.from(exported, "hex")).update("caisson key kept\n").digest("hex");
    await harness.rest("POST", `${STORE}/finish-key-rotation`, { proof });
  };
  const extend = async (sandboxId: string) =>
    void (await harness.rest("PATCH", `/api/v3/sandbox/${sandboxId}`, { stop_at_ms: extendTo }));
  const stopAtMs = async (sandboxId: string): Promise<number> =>
    Date.parse((await harness.rest<{ stopAt: string }>("GET", `/api/v3/sandbox/${sandboxId}`)).stopAt);
  const inRestrictedSandbox = (): Promise<void> =>
    harness.inSandbox({ allowNet: ["192.0.2.1:443"] }, async (sandbox) => {
      assert.equal(await sandbox.sh`echo restricted`.text(), "restricted\n");
    });

  /** A session with a server inside; it ends with the clients. */
  const openServing = async (): Promise<Sandbox> => {
    const sandbox = await harness.openSandbox({});
    const child = await sandbox.deno.run({ code: 'Deno.serve({ port: 8000 }, () => new Response("served"))' });
    assert.equal(await child.httpReady, true);
    return sandbox;
  };
  const usePreview = async (sandbox: Sandbox | undefined): Promise<void> => {
    const path = `/api/v3/sandbox/${sandbox?.id}/expose/http`;
    const { url, domain } = await harness.rest<{ url: string; domain: string }>("POST", path, { port: 8000 });
    const client = await PreviewClient.of(harness.server.dataDirectory);
    assert.equal((await client.get(url)).body, "served");
    await harness.rest("DELETE", `${path}/${domain}`);
    assert.equal((await client.get(url)).status, 404);
  };

  let isTraced = false;
  return [
    creation(
      "volume create, blank",
      "volumes",
      nothing,
      (id) => harness.client.createVolume(id),
      (id) => harness.assertUsable(id),
    ),
    creation(
      "volume create, from the built-in image and larger",
      "volumes",
      nothing,
      (id) => harness.client.createVolume(id, { from: "builtin:debian-13", capacity: "5GB" }),
      (id) =>
        harness.inSandbox({ root: id }, async (sandbox) =>
          assert.ok(Number(await sandbox.sh`df --output=size -B1 / | tail -1`.text()) > 4e9),
        ),
    ),
    creation(
      "volume create, from a snapshot",
      "volumes",
      async (id) => {
        await prepareFilled(`${id}-src`, id);
        await harness.client.snapshot(`${id}-src`, `${id}-snp`);
      },
      (id) => harness.client.createVolume(id, { from: `${id}-snp` }),
      (id) => harness.assertUsable(id, id),
    ),
    creation(
      "volume create, from a snapshot whose disk is full, as a copy on another disk",
      "volumes",
      async (id) => {
        await prepareFilled(`${id}-src`, id);
        await harness.client.snapshot(`${id}-src`, `${id}-snp`);
        await harness.addDisk();
      },
      (id) => harness.client.createVolume(id, { from: `${id}-snp` }),
      async (id) => {
        await harness.assertUsable(id, id);
        const volume = await harness.rest<{ id: string }>("GET", `/api/v2/volumes/${id}`);
        const place = join(harness.server.dataDirectory, "regions/ord/pool/placed", volume.id);
        const isCopy = await readlink(place).then(
          () => true,
          () => false,
        );
        // A disk that cannot be measured gets no copies: the volume is a clone beside its snapshot. While the points are traced nothing fails.
        assert.ok(isCopy || isTraced, "it lies on the first disk");
        isTraced = true;
        await harness.rest("DELETE", `/api/v2/volumes/${id}?now=true`);
        await assert.rejects(readlink(place), { code: "ENOENT" });
        await harness.removeDisk();
      },
    ),
    creation(
      "snapshot of a detached volume",
      "snapshots",
      (id) => prepareFilled(`${id}-src`, id),
      (id) => harness.client.snapshot(`${id}-src`, id),
      assertSnapshotUsable,
    ),
    creation(
      "snapshot import",
      "snapshots",
      async (id) => {
        await prepareFilled(`${id}-src`, id);
        await harness.client.snapshot(`${id}-src`, `${id}-snp`);
        const response = await harness.server.request(`/api/v2/snapshots/${id}-snp/export`);
        exported.set(id, new Uint8Array(await response.arrayBuffer()));
      },
      importSnapshot,
      assertSnapshotUsable,
      "snapshot-import",
    ),
    {
      name: "snapshot replicate",
      async prepare(id) {
        await prepareFilled(`${id}-src`, id);
        diskIds.set(id, (await harness.client.snapshot(`${id}-src`, id)).id);
      },
      run: (id) => harness.replicate(id),
      async verify(id, isAcknowledged) {
        const { replication } = await harness.client.extended<{ replication: { state: string } }>(
          "GET",
          `/api/v2/snapshots/${id}`,
        );
        const isReplicated = replication.state === "replicated";
        assert.ok(isReplicated || !isAcknowledged, "a snapshot that was replicated is not");
        // The store may show one that is whole there before its row does, never the other way round.
        assert.ok(!isReplicated || (await harness.isInStore(diskIds.get(id) ?? "")), "the store does not have it");
        await eventually(
          "the snapshot in the store",
          async () =>
            await harness.replicate(id).then(
              () => true,
              () => null,
            ),
          60_000,
        );
        await harness.assertRecorded(diskIds.get(id) ?? "", "snapshot-replicated");
        await harness.rest("DELETE", `/api/v2/snapshots/${id}?now=true`);
        assert.equal(await harness.isInStore(diskIds.get(id) ?? ""), false, "its copy outlives it");
      },
    },
    {
      name: "snapshot of a schedule",
      prepare: (id) => prepareFilled(id, id),
      async run(id) {
        await schedule(id, "1h");
        await untilScheduled(id);
      },
      async verify(id) {
        const { id: volumeId } = await schedule(id, "1h");
        await untilScheduled(id);
        const made = await automaticOf(id);
        assert.equal(made.length, 1, "one is due, and one is made");
        const [{ id: snapshotId, slug } = { id: "", slug: "" }] = made;
        assert.ok(await harness.isInStore(snapshotId), "the store does not have it");
        for (const verb of ["snapshot-create", "snapshot-replicated"]) await harness.assertRecorded(snapshotId, verb);
        await harness.assertRecorded(volumeId, "volume-schedule");
        await schedule(id, null);
        await harness.client.createVolume(`${id}-new`, { from: slug });
        await harness.assertUsable(`${id}-new`, id);
        await harness.assertUsable(id, id);
      },
    },
    liveSnapshot("snapshot of a volume that is being written to", (sandbox) => sandbox.sh`sync`),
    liveSnapshot("snapshot of a fragmented volume that is being written to", (sandbox, id) =>
      scatter(sandbox, () => harness.client.snapshot(`${id}-src`, `${id}-before`)),
    ),
    creation(
      "volume create, from a snapshot of a fragmented volume",
      "volumes",
      async (id) => {
        await prepareFilled(`${id}-src`, id);
        await harness.inSandbox({ volumes: { "/v": `${id}-src` } }, (sandbox) =>
          scatter(sandbox, () => harness.client.snapshot(`${id}-src`, `${id}-before`)),
        );
        await harness.client.snapshot(`${id}-src`, `${id}-snp`);
      },
      (id) => harness.client.createVolume(id, { from: `${id}-snp` }),
      (id) => harness.assertUsable(id, id),
    ),
    {
      name: "volume grow",
      prepare: (id) => prepareFilled(id, id),
      run: async (id) => void (await grow(id)),
      async verify(id, isAcknowledged) {
        const { capacity } = await harness.rest<{ capacity: number }>("GET", `/api/v2/volumes/${id}`);
        assert.ok(capacity === 600e6 || (!isAcknowledged && capacity === 300e6), `capacity ${capacity}`);
        await grow(id);
        await harness.inSandbox({ volumes: { "/v": id } }, async (sandbox) => {
          assert.equal(await sandbox.fs.readTextFile("/v/file"), id);
          assert.ok(Number(await sandbox.sh`df --output=size -B1 /v | tail -1`.text()) > 500e6);
        });
      },
    },
    ...ofDisks(
      "volume",
      nothing,
      (id) => prepareFilled(id, id),
      (id) => harness.assertUsable(id, id),
    ),
    ...ofDisks(
      "snapshot",
      (id) => prepareFilled(`${id}-src`, id),
      (id) => harness.client.snapshot(`${id}-src`, id),
      assertSnapshotUsable,
    ),
    {
      name: "organization and token",
      prepare: nothing,
      async run(id) {
        await harness.rest("POST", "/api/v1/organizations", { slug: id });
        await harness.rest("POST", "/api/v1/tokens", { name: id, organization: id });
      },
      async verify(id, isAcknowledged) {
        const organizations = await harness.rest<{ slug: string }[]>("GET", "/api/v1/organizations");
        const isThere = organizations.some(({ slug }) => slug === id);
        assert.ok(isThere || !isAcknowledged, "what was acknowledged is gone");
        if (!isThere) await harness.rest("POST", "/api/v1/organizations", { slug: id });
        await harness.rest("POST", "/api/v1/tokens", { name: id, organization: id });
      },
    },
    {
      name: "token revoke",
      async prepare(id) {
        const token = await harness.rest<{ id: string }>("POST", "/api/v1/tokens", { name: id });
        tokenIds.set(id, token.id);
      },
      run: revoke,
      async verify(id, isAcknowledged) {
        const isThere = (await tokenNamed(id)) !== undefined;
        assert.ok(!isThere || !isAcknowledged, "a token that was revoked is back");
        if (isThere) await revoke(id);
        await harness.assertRecorded(tokenIds.get(id) ?? "", "token-revoke");
      },
    },
    {
      name: "sandbox extend",
      async prepare(id) {
        sandboxIds.set(id, (await harness.openSandbox({ timeout: "5m" })).id);
      },
      run: (id) => extend(sandboxIds.get(id) ?? ""),
      async verify(id, isAcknowledged) {
        const sandboxId = sandboxIds.get(id) ?? "";
        assert.ok(
          (await stopAtMs(sandboxId)) === extendTo || !isAcknowledged,
          "an extension that was promised is gone",
        );
        await harness.server.request(`/api/v3/sandbox/${sandboxId}`, { method: "DELETE" });
        await harness.inSandbox({ timeout: "5m" }, async (sandbox) => {
          await extend(sandbox.id);
          assert.equal(await stopAtMs(sandbox.id), extendTo);
        });
      },
    },
    {
      name: "preview, made, used and revoked",
      prepare: async () => void (await openServing()),
      run: () => usePreview(harness.lastSandbox),
      async verify() {
        // A crash has ended the sandbox, and its previews with it.
        await usePreview(await openServing());
      },
    },
    {
      name: "sandbox create with a volume",
      prepare: async (id) => void (await harness.client.createVolume(id)),
      run: async (id) => void (await harness.openSandbox({ volumes: { "/v": id } })),
      async verify(id) {
        await harness.closeClients();
        await harness.assertUsable(id);
      },
    },
    {
      name: "sandbox end",
      async prepare(id) {
        await harness.client.createVolume(id);
        const sandbox = await harness.openSandbox({ volumes: { "/v": id } });
        await sandbox.fs.writeTextFile("/v/file", id);
        await sandbox.sh`sync`;
      },
      async run() {
        await harness.lastSandbox?.kill();
        await harness.untilPassed("sandbox-give-back.place:after");
      },
      verify: (id) => harness.assertUsable(id, id),
    },
    {
      name: "sandbox with a list of hosts, created and ended",
      prepare: nothing,
      run: () => inRestrictedSandbox(),
      verify: () => inRestrictedSandbox(),
    },
    {
      name: "volume delete for good",
      async prepare(id) {
        diskIds.set(id, (await harness.client.createVolume(id)).id);
      },
      run: async (id) => void (await harness.rest("DELETE", `/api/v2/volumes/${id}?now=true`)),
      async verify(id, isAcknowledged) {
        const diskId = diskIds.get(id) ?? "";
        const isThere = await harness.exists("volumes", id);
        assert.ok(!isThere || !isAcknowledged, "what was deleted is back");
        if (isThere) await harness.rest("DELETE", `/api/v2/volumes/${id}?now=true`);
        // Deleted but not purged, purging, or gone: each is a state that a purge brings to its end.
        else await harness.server.request(`/api/v2/volumes/${diskId}/purge`, { method: "POST", json: {} });
        assert.deepEqual(await harness.rest("GET", `/api/v2/volumes?deleted=true&search=${id}`), []);
        await harness.assertRecorded(diskId, "volume-purge");
        await harness.client.createVolume(id);
      },
    },
    {
      name: "backup",
      prepare: async (id) => void (await harness.client.createVolume(id)),
      run: (id) => makeBackup(id),
      async verify(id, isAcknowledged) {
        const { backups } = await harness.rest<{ backups: { id: string }[] }>("GET", "/api/v1/backups");
        const made = backupIds.get(id);
        if (isAcknowledged)
          assert.ok(
            backups.some((backup) => backup.id === made),
            "a backup that was acknowledged is gone",
          );
        await makeBackup(id);
        for (const backup of backups) await harness.rest("DELETE", `/api/v1/backups/${backup.id}`);
        const left = await harness.rest<{ backups: { id: string }[] }>("GET", "/api/v1/backups");
        assert.deepEqual(
          left.backups.map((backup) => backup.id),
          [backupIds.get(id)],
        );
        await harness.rest("DELETE", `/api/v1/backups/${backupIds.get(id)}`);
        await assert.rejects(stat(join(harness.server.dataDirectory, "database/backup.db")), { code: "ENOENT" });
      },
    },
    {
      name: "replicated snapshot, deleted for good",
      async prepare(id) {
        await prepareFilled(`${id}-src`, id);
        diskIds.set(id, (await harness.client.snapshot(`${id}-src`, id)).id);
        await harness.replicate(id);
      },
      run: async (id) => void (await harness.rest("DELETE", `/api/v2/snapshots/${id}?now=true`)),
      async verify(id) {
        const diskId = diskIds.get(id) ?? "";
        // `202`: its copy is still in the store, and the next purge takes it out.
        if (await harness.exists("snapshots", id)) await harness.rest("DELETE", `/api/v2/snapshots/${id}?now=true`);
        else await harness.server.request(`/api/v2/snapshots/${diskId}/purge`, { method: "POST", json: {} });
        assert.deepEqual(await harness.rest("GET", `/api/v2/snapshots?deleted=true&search=${id}`), []);
        assert.equal(await harness.isInStore(diskId), false, "its copy outlives it");
        await harness.assertRecorded(diskId, "snapshot-purge");
        await harness.client.snapshot(`${id}-src`, id);
      },
    },
    {
      name: "snapshot store, accepted as it is",
      async prepare(id) {
        await prepareFilled(`${id}-src`, id);
        diskIds.set(id, (await harness.client.snapshot(`${id}-src`, id)).id);
        await harness.replicate(id);
      },
      run: async () => void (await harness.rest("POST", `${STORE}/accept`, {})),
      async verify(id) {
        const { problem } = await harness.rest<{ problem: string | null }>("GET", STORE);
        assert.equal(problem, null, "it can be used before it is accepted again");
        await harness.rest("POST", `${STORE}/accept`, {});
        await harness.replicate(id);
        assert.equal(await harness.isInStore(diskIds.get(id) ?? ""), true);
        await harness.rest("DELETE", `/api/v2/snapshots/${id}?now=true`);
      },
    },
    {
      name: "installation key, rotated",
      async prepare(id) {
        await prepareFilled(`${id}-src`, id);
        diskIds.set(id, (await harness.client.snapshot(`${id}-src`, id)).id);
        await harness.replicate(id);
      },
      run: () => rotateKey(),
      async verify(id) {
        const count = async () =>
          (await harness.rest<{ organization_keys: number }>("POST", `${STORE}/rotate-key`, { dry_run: true }))
            .organization_keys;
        const keys = await count();
        assert.ok(keys > 0, "every key opens before it is rotated again");
        await rotateKey();
        assert.equal(await count(), keys);
        const { key_rotation } = await harness.rest<{ key_rotation: unknown }>("GET", STORE);
        assert.equal(key_rotation, null);
        const left = await readdir(join(harness.server.dataDirectory, "keys"));
        assert.deepEqual(
          left.filter((name) => /next|previous|\.new$/.test(name)),
          [],
        );
        const path = `/api/v2/snapshots/${id}/verify`;
        const { store } = await harness.rest<{ store: { state: string } }>("POST", path, {});
        assert.equal(store.state, "whole");
        await harness.rest("DELETE", `/api/v2/snapshots/${id}?now=true`);
      },
    },
    {
      name: "node join",
      async prepare(id) {
        const { token } = await harness.rest<{ token: string }>("POST", "/api/v1/nodes/tokens", {});
        const [, , secret] = JSON.parse(Buffer.from(token.slice(4), "base64url").toString());
        joining.set(id, { secret, request: await createSigningRequest(createKey(), "test") });
      },
      run: async (id) => void (await joinAs(id)),
      async verify(id, isAcknowledged) {
        const address = addressOf(id);
        const nodes = async () =>
          (await harness.rest<{ id: string; address: string }[]>("GET", "/api/v1/nodes")).filter(
            (node) => node.address === address,
          );
        const [before] = await nodes();
        assert.ok(before !== undefined || !isAcknowledged, "a node that was acknowledged is gone");
        const nodeId = await joinAs(id);
        if (before !== undefined) assert.equal(nodeId, before.id, "the same machine is another node");
        assert.deepEqual(
          (await nodes()).map((node) => node.id),
          [nodeId],
        );
        await harness.rest("DELETE", `/api/v1/nodes/${nodeId}`);
      },
    },
    {
      name: "authority of the nodes, renewed and retired",
      async prepare(id) {
        await harness.rest("POST", "/api/v1/nodes/tokens", {});
        const { authorities } = await harness.rest<AuthorityShown>("GET", AUTHORITY);
        assert.equal(authorities.length, 1);
        authorityNumbers.set(id, authorities[0]?.number ?? 0);
      },
      run: () => renewAuthority(),
      async verify(id, isAcknowledged) {
        const { authorities } = await harness.rest<AuthorityShown>("GET", AUTHORITY);
        const before = authorityNumbers.get(id) ?? 0;
        const numbers = authorities.map(({ number }) => number);
        const possible = isAcknowledged ? [[before + 1]] : [[before], [before, before + 1], [before + 1]];
        assert.ok(
          possible.some((these) => isDeepStrictEqual(these, numbers)),
          `authorities ${numbers} after ${before}`,
        );
        if (numbers.length === 2) await retireAuthority();
        else await renewAuthority();
        assert.equal((await harness.rest<AuthorityShown>("GET", AUTHORITY)).authorities.length, 1);
        const { id: tokenId } = await harness.rest<{ id: string }>("POST", "/api/v1/nodes/tokens", {});
        await harness.rest("DELETE", `/api/v1/nodes/tokens/${tokenId}`);
      },
    },
    {
      name: "pool grow",
      async prepare() {
        await harness.server.writeSettings(`[pool]\nsize = ${(await stat(poolFile())).size + 64 * 2 ** 20}\n`);
      },
      run: async () => void (await growPool()),
      async verify(_id, isAcknowledged) {
        const { size } = await stat(poolFile());
        await growPool();
        if (isAcknowledged) assert.equal((await stat(poolFile())).size, size, "a growth that was acknowledged is gone");
        await harness.server.writeSettings();
      },
    },
    {
      name: "start of a directory that has lost which node it is",
      isStart: true,
      async prepare(id) {
        await harness.client.createVolume(id);
        await harness.fill(id, id);
        nodeIds.set(id, await readNodeId());
        await harness.server.stop();
        await rm(join(harness.server.dataDirectory, "node.json"));
      },
      run: () => harness.server.start(),
      async verify(id) {
        assert.equal(await readNodeId(), nodeIds.get(id));
        assert.equal((await harness.rest<unknown[]>("GET", "/api/v1/nodes")).length, 1, "it is no second node");
        await harness.assertUsable(id, id);
      },
    },
    {
      name: "purge, and settling at the start",
      isStart: true,
      async prepare(id) {
        await harness.client.createVolume(id);
        await harness.server.stop();
        await harness.server.writeSettings("[volumes]\nretention_hours = 0\n");
        await harness.server.start();
        await harness.rest("DELETE", `/api/v2/volumes/${id}`);
        await harness.server.stop();
        await harness.server.writeSettings();
      },
      run: () => harness.server.start(),
      async verify(id) {
        assert.equal(await harness.exists("volumes", id), false);
        await harness.client.createVolume(id);
      },
    },
  ];
}
