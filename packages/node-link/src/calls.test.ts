import assert from "node:assert/strict";
import { once } from "node:events";
import { suite, test } from "node:test";
import { CaissonError } from "@caisson/model";
import type { DiskPiece, NodeEvent, SandboxSpec } from "@caisson/node";
import { openLink, partialNode } from "../testing/index.ts";
import { NodeEvents } from "./node-events.ts";

const MIB = 2 ** 20;
const never = new AbortController().signal;
const disk = { region: "ord", id: "snp_ord_a" };
const spec = { id: "sbx_ord_a", region: "ord" } as SandboxSpec;

suite("calls of a linked node", () => {
  test("errors of the table, of the kernel and others come as they are", async () => {
    const errors: Error[] = [
      new CaissonError("STORAGE_FULL", "There is no room: é"),
      Object.assign(new Error("EIO: i/o error"), { code: "EIO", errno: -5, syscall: "read" }),
      new Error("something else"),
    ];
    await using opened = await openLink(
      partialNode({
        async prepare() {
          throw errors.shift();
        },
      }),
    );
    const full = await opened.link.prepare().catch((error: unknown) => error);
    assert.ok(full instanceof CaissonError);
    assert.equal(full.code, "STORAGE_FULL");
    assert.equal(full.message, "There is no room: é");
    await assert.rejects(opened.link.prepare(), { code: "EIO", errno: -5, syscall: "read", message: "EIO: i/o error" });
    await assert.rejects(opened.link.prepare(), /^Error: something else$/);
  });

  test("a dismissal reaches a node whatever its generation, and is not taken as told when it could not be remembered", async () => {
    const told: string[] = [];
    let problem: Error | null = new Error("the disk is full");
    await using opened = await openLink(partialNode({}), {
      generation: null,
      async onDismissed(forgottenAt) {
        if (problem !== null) throw problem;
        told.push(forgottenAt);
      },
    });
    const at = "2026-01-30T18:33:40.790Z";
    await assert.rejects(opened.link.dismiss(at), /the disk is full/);
    problem = null;
    await assert.rejects(opened.link.dismiss("some day"), /does not say since when/);
    await opened.link.dismiss(at);
    assert.deepEqual(told, [at]);
    await using other = await openLink(partialNode({}));
    await assert.rejects(other.link.dismiss(at), /takes no dismissal/);
  });

  test("a run that was shut out is told so whatever its generation, when it has answered, and another run is not", async () => {
    const expelled = Promise.withResolvers<void>();
    const runId = "run-shut-out";
    const description = { runId, regions: [], labels: {}, placeCount: 1, placeBound: null, retriedWorkCount: 0 };
    await using opened = await openLink(partialNode({ describe: async () => description }), {
      generation: null,
      onExpelled: expelled.resolve,
    });
    await assert.rejects(opened.link.expel("run-before"), /Another run of this node was shut out/);
    await opened.link.expel(runId);
    await expelled.promise;
  });

  test("a large answer and large arguments pass whole", async () => {
    const ids = Array.from({ length: 200_000 }, (_, index) => `vol_ord_${index}`);
    await using opened = await openLink(
      partialNode({ placesOf: async (_region, asked) => asked.map((id) => ({ directory: id, problem: null })) }),
    );
    const places = await opened.link.placesOf("ord", ids);
    assert.equal(places.length, ids.length);
    assert.equal(places.at(-1)?.directory, ids.at(-1));
  });

  test("calls wait for the run to begin, and those of another run or an older generation are refused", async () => {
    const node = partialNode({ prepare: async () => {} });
    await using opened = await openLink(node, { generation: null });
    const { link } = opened;
    assert.equal((await link.describe()).runId, "run-1");
    await assert.rejects(link.prepare(), { code: "NODE_UNAVAILABLE", message: /being settled/ });
    assert.throws(() => link.begin("run-2", 1), { code: "NODE_UNAVAILABLE" });
    link.begin("run-1", 3);
    await link.prepare();
    link.begin("run-1", 2);
    await assert.rejects(link.prepare(), {
      code: "NODE_UNAVAILABLE",
      message: /generation 3 has replaced.*restored from a backup, start the node again/,
    });
    const [error] = await once(link.openAgent("sbx_ord_a"), "error");
    assert.equal(error.code, "NODE_UNAVAILABLE");
    link.begin("run-1", 4);
    await link.prepare();
  });

  test("an abort gets to the node, and the call ends when nothing is under way there any more", async () => {
    let isUnderWay = true;
    const started = Promise.withResolvers<void>();
    const release = Promise.withResolvers<void>();
    await using opened = await openLink(
      partialNode({
        async startSandbox(_spec, signal) {
          started.resolve();
          await once(signal, "abort");
          await release.promise;
          isUnderWay = false;
          throw new Error("aborted");
        },
      }),
    );
    const client = new AbortController();
    const call = opened.link.startSandbox(spec, client.signal);
    await started.promise;
    client.abort(new Error("left"));
    let isOver = false;
    const rejected = assert.rejects(call, /left/).then(() => {
      isOver = true;
    });
    await opened.link.describe();
    assert.equal(isOver, false, "the call did not wait for the node");
    release.resolve();
    await rejected;
    assert.equal(isUnderWay, false);
    await assert.rejects(opened.link.startSandbox(spec, AbortSignal.abort(new Error("gone"))), /gone/);
  });

  test("a start whose caller is gone when it has settled is stopped, as the stop may have come before it", async () => {
    for (const isStarted of [true, false]) {
      const started = Promise.withResolvers<void>();
      const release = Promise.withResolvers<void>();
      const stoppedIds: string[] = [];
      await using opened = await openLink(
        partialNode({
          async startSandbox(_spec, signal) {
            started.resolve();
            await once(signal, "abort");
            await release.promise;
            if (!isStarted) throw new Error("aborted");
            return { trace: [] };
          },
          async stopSandbox(id) {
            stoppedIds.push(id);
            return { damages: [] };
          },
        }),
      );
      const call = assert.rejects(opened.link.startSandbox(spec, never), { code: "NODE_UNAVAILABLE" });
      await started.promise;
      const again = opened.connected();
      await opened.cut();
      await call;
      opened.link.begin((await again).runId, 1);
      await opened.link.stopSandbox(spec.id);
      assert.deepEqual(stoppedIds, [spec.id]);
      release.resolve();
      for (let round = 0; round < 20 && stoppedIds.length < 2; round += 1) await opened.link.describe();
      assert.deepEqual(stoppedIds, [spec.id, spec.id]);
    }
  });

  test("a start that succeeds is not aborted afterwards", async () => {
    let signal: AbortSignal | null = null;
    await using opened = await openLink(
      partialNode({
        async startSandbox(_spec, given) {
          signal = given;
          return { trace: [] };
        },
      }),
    );
    assert.deepEqual(await opened.link.startSandbox(spec, never), { trace: [] });
    await opened.link.describe();
    await opened[Symbol.asyncDispose]();
    assert.equal((signal as AbortSignal | null)?.aborted, false);
  });

  test("the pieces of a snapshot come as they are, at the pace of the reader, and it is closed in the end", async () => {
    const fileSystem = { type: "ext4", uuid: "0".repeat(32), sizeBytes: 2 ** 40 } as const;
    const changed = [{ offset: 0, length: MIB }];
    let madeCount = 0;
    let closedCount = 0;
    async function* pieces(): AsyncGenerator<DiskPiece, void> {
      for (; madeCount < 64; madeCount += 1) yield { offset: madeCount * 2 ** 33, bytes: Buffer.alloc(MIB, madeCount) };
    }
    await using opened = await openLink(
      partialNode({
        exportDisk: async ({ base }) => ({
          ...{ sizeBytes: 2 ** 40, fileSystem, pieces },
          ...(base === "snp_ord_base" ? { changed } : {}),
          async [Symbol.asyncDispose]() {
            closedCount += 1;
          },
        }),
      }),
    );
    {
      await using exported = await opened.link.exportDisk(disk);
      assert.equal(exported.sizeBytes, 2 ** 40);
      assert.deepEqual(exported.fileSystem, fileSystem);
      assert.ok(!("changed" in exported));
      // Nobody reads: what is made is bounded by what may be on its way.
      for (let call = 0; call < 20; call += 1) await opened.link.describe();
      assert.ok(madeCount < 6, `${madeCount} pieces were made for nobody`);
      let count = 0;
      for await (const { offset, bytes } of exported.pieces()) {
        assert.equal(offset, count * 2 ** 33);
        assert.ok(Buffer.alloc(MIB, count).equals(bytes));
        count += 1;
      }
      assert.equal(count, 64);
    }
    madeCount = 0;
    {
      await using exported = await opened.link.exportDisk({ ...disk, base: "snp_ord_base" });
      assert.deepEqual(exported.changed, changed);
      for await (const { offset } of exported.pieces()) if (offset > 0) break;
    }
    while (closedCount < 2) await opened.link.describe();
    assert.ok(madeCount < 10);
  });

  test("an error between pieces is told, and one before them", async () => {
    let isOpened = false;
    await using opened = await openLink(
      partialNode({
        async exportDisk() {
          if (!isOpened) throw new CaissonError("DISK_UNAVAILABLE", "not there");
          return {
            sizeBytes: 1,
            fileSystem: { type: "ext4", uuid: "0".repeat(32), sizeBytes: 1 },
            async *pieces() {
              yield { offset: 0, bytes: Buffer.from("x") };
              throw new CaissonError("SNAPSHOT_NOT_FOUND", "deleted meanwhile");
            },
            async [Symbol.asyncDispose]() {},
          };
        },
      }),
    );
    await assert.rejects(opened.link.exportDisk(disk), { code: "DISK_UNAVAILABLE", message: "not there" });
    isOpened = true;
    await using exported = await opened.link.exportDisk(disk);
    await assert.rejects(Array.fromAsync(exported.pieces()), { code: "SNAPSHOT_NOT_FOUND" });
  });

  test("an import arrives whole, at the pace of the node, or not at all", async () => {
    const sum = { bytes: 0, last: -1 };
    let refusal: Error | null = null;
    await using opened = await openLink(
      partialNode({
        async importDisk(_disk, pieces) {
          sum.bytes = 0;
          for await (const { offset, bytes } of pieces) {
            if (refusal !== null) throw refusal;
            sum.bytes += bytes.length;
            sum.last = offset;
          }
        },
      }),
    );
    const target = { ...disk, sizeBytes: 2 ** 34 };
    async function* source(count: number, failure?: Error): AsyncGenerator<DiskPiece, void> {
      for (let index = 0; index < count; index += 1) yield { offset: index * MIB, bytes: Buffer.alloc(MIB) };
      if (failure !== undefined) throw failure;
    }
    await opened.link.importDisk(target, source(40), never);
    assert.deepEqual(sum, { bytes: 40 * MIB, last: 39 * MIB });
    await opened.link.importDisk(target, source(0), never);
    assert.equal(sum.bytes, 0);
    await assert.rejects(
      opened.link.importDisk(target, source(3, new Error("the client left")), never),
      /the client left/,
    );
    refusal = new CaissonError("STORAGE_FULL", "no room");
    await assert.rejects(opened.link.importDisk(target, source(1000), never), { code: "STORAGE_FULL" });
    assert.equal((await opened.link.describe()).runId, "run-1");
  });

  test("an import whose caller leaves ends on the node too, also when all has been sent", async () => {
    const checking = Promise.withResolvers<void>();
    const ended = Promise.withResolvers<void>();
    await using opened = await openLink(
      partialNode({
        async importDisk(_disk, pieces, signal) {
          for await (const _piece of pieces);
          signal.addEventListener("abort", () => ended.resolve());
          checking.resolve();
          await ended.promise;
          signal.throwIfAborted();
        },
      }),
    );
    async function* source(): AsyncGenerator<DiskPiece, void> {
      yield { offset: 0, bytes: Buffer.from("x") };
    }
    const caller = new AbortController();
    const importing = opened.link.importDisk({ ...disk, sizeBytes: 1 }, source(), caller.signal);
    const rejected = assert.rejects(importing, /the caller has left/);
    await checking.promise;
    caller.abort(new Error("the caller has left"));
    await rejected;
    await ended.promise;
  });

  test("an import whose source fails is an error on the node, not an end", async () => {
    const ended = Promise.withResolvers<string>();
    await using opened = await openLink(
      partialNode({
        async importDisk(_disk, pieces) {
          try {
            for await (const _piece of pieces);
            ended.resolve("whole");
          } catch {
            ended.resolve("broken off");
          }
        },
      }),
    );
    async function* source(): AsyncGenerator<DiskPiece, void> {
      yield { offset: 0, bytes: Buffer.from("x") };
      throw new Error("no more");
    }
    await assert.rejects(opened.link.importDisk({ ...disk, sizeBytes: 1 }, source(), never), /no more/);
    assert.equal(await ended.promise, "broken off");
  });

  test("events are told until they are taken, over connections that are lost too", async () => {
    const events = new NodeEvents();
    const damaged: NodeEvent = { kind: "volume-damaged", volumeId: "vol_ord_a", message: "broken" };
    const exited: NodeEvent = { kind: "sandbox-exited", sandboxId: "sbx_ord_a", cause: "exited" };
    // Before there is a server.
    const early = events.take(exited);
    const told: NodeEvent[] = [];
    const answers: (() => Promise<void>)[] = [
      async () => {},
      async () => {
        throw new Error("the store is away");
      },
      () => new Promise(() => {}),
      async () => {},
    ];
    const asked = { third: Promise.withResolvers<void>() };
    await using opened = await openLink(partialNode({}), {
      events,
      takeEvent(event) {
        told.push(event);
        if (told.length === 3) asked.third.resolve();
        return answers.shift()?.() ?? Promise.resolve();
      },
    });
    await early;
    await assert.rejects(events.take(damaged), /the store is away/);
    const third = events.take(damaged);
    await asked.third.promise;
    const again = opened.connected();
    await opened.cut();
    await again;
    await third;
    assert.deepEqual(told, [exited, damaged, damaged, damaged]);
  });

  test("a node that stops waits until the server has ended its sandboxes, and not where there is none", async () => {
    const events = new NodeEvents();
    const ended = Promise.withResolvers<void>();
    await using opened = await openLink(partialNode({}), { events, onStopping: () => ended.promise });
    let isTaken = false;
    const told = events.tellOfStopping().then(() => {
      isTaken = true;
    });
    await opened.link.describe();
    assert.equal(isTaken, false);
    ended.resolve();
    await told;
  });
});
