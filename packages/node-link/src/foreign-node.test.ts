import assert from "node:assert/strict";
import { Readable } from "node:stream";
import { suite, test } from "node:test";
import type { Node, NodeDescription, NodeEvent, SandboxSpec } from "@caisson/node";
import {
  makeInstallation,
  openLink,
  partialNode,
  problemOf,
  serveTestNode,
  TEST_DESCRIPTION,
} from "../testing/index.ts";
import { readFrames } from "./frames.ts";
import { NodeEvents } from "./node-events.ts";

suite("a node in foreign hands", () => {
  test("cannot give pieces that are out of order or beyond the end of its snapshot", async () => {
    const piecesOf = async (...offsets: number[]): Promise<number> => {
      const node = partialNode({
        exportDisk: async () => ({
          sizeBytes: 8192,
          fileSystem: { type: "ext4", uuid: "0".repeat(32), sizeBytes: 8192 },
          async *pieces() {
            for (const offset of offsets) yield { offset, bytes: Buffer.alloc(4096, 1) };
          },
          async [Symbol.asyncDispose]() {},
        }),
      });
      await using opened = await openLink(node);
      await using exported = await opened.link.exportDisk({ region: "ord", id: "snp_ord_a" });
      return (await Array.fromAsync(exported.pieces())).length;
    };
    assert.equal(await piecesOf(0, 4096), 2);
    for (const offsets of [[4096, 0], [0, 0], [8192], [2 ** 60]])
      await assert.rejects(piecesOf(...offsets), /pieces that are not of the snapshot/);
  });

  test("waits when it tells more than is taken", async () => {
    const events = new NodeEvents();
    let asked = 0;
    const all = Promise.withResolvers<void>();
    const release = Promise.withResolvers<void>();
    await using opened = await openLink(partialNode({ prepare: async () => {} }), {
      events,
      async takeEvent() {
        asked++;
        if (asked === 64) all.resolve();
        await release.promise;
      },
    });
    const told = Array.from({ length: 500 }, () => events.take({ kind: "background-error", work: "storage" }));
    await all.promise;
    await opened.link.prepare();
    assert.equal(asked, 64);
    release.resolve();
    await Promise.all(told);
    assert.equal(asked, 500);
  });

  test("cannot answer with anything but what the call gives, and its next answer is taken", async () => {
    const usage = { builtInBytes: 1, scratchBytes: 2 };
    let value: unknown;
    const answer = async () => value as never;
    await using opened = await openLink(
      partialNode({
        ownEnd: answer,
        deleteDisk: answer,
        getDisk: answer,
        ownPoolUsage: answer,
        listDisks: answer,
        listSandboxes: answer,
        placesOf: answer,
        prepare: answer,
        startSandbox: answer,
        stopSandbox: answer,
        exportDisk: async () =>
          ({ ...(value as object), async *pieces() {}, async [Symbol.asyncDispose]() {} }) as never,
      }),
    );
    const { link } = opened;
    const disk = { region: "ord", id: "snp_ord_a" };
    const place = { directory: "/pool", problem: null };
    const wrong: readonly [method: keyof Node, call: () => Promise<unknown>, values: readonly unknown[]][] = [
      ["ownEnd", () => link.ownEnd("sbx_ord_a"), ["any text", {}, 1, undefined]],
      ["deleteDisk", () => link.deleteDisk(disk), ["gone", null]],
      ["getDisk", () => link.getDisk(disk), [{ sizeBytes: -1 }, { sizeBytes: 1.5 }, { sizeBytes: 2 ** 60 }, {}]],
      ["ownPoolUsage", () => link.ownPoolUsage("ord"), [{ ...usage, scratchBytes: "2" }, [], null]],
      ["listDisks", () => link.listDisks("ord"), [["vol a"], ["x".repeat(101)], [null], {}]],
      ["listSandboxes", () => link.listSandboxes(), [[{ id: "sbx_ord_a", ownEnd: "bored" }]]],
      ["placesOf", () => link.placesOf("ord", ["vol_ord_a"]), [[], [place, place], [{ directory: "/pool" }]]],
      ["prepare", () => link.prepare(), ["done"]],
      [
        "startSandbox",
        () => link.startSandbox({ id: "sbx_ord_a", region: "ord" } as SandboxSpec, new AbortController().signal),
        [{}, { trace: [{ step: "a b", durationMs: 1 }] }, { trace: [{ step: "a", durationMs: -1 }] }],
      ],
      ["stopSandbox", () => link.stopSandbox("sbx_ord_a"), [{ damages: "one" }, { damages: Array(257).fill("x") }]],
      ["exportDisk", () => link.exportDisk(disk), [{ sizeBytes: 1, fileSystem: { type: "xfs" } }, { sizeBytes: -1 }]],
    ];
    for (const [method, call, values] of wrong)
      for (value of values)
        await assert.rejects(
          call(),
          {
            code: "NODE_UNAVAILABLE",
            message: new RegExp(`^Node nod_test gave an answer to ${method} that is not one`),
          },
          `${method}: ${JSON.stringify(value)}`,
        );
    value = usage;
    assert.deepEqual(await link.ownPoolUsage("ord"), usage);
  });

  test("cannot make an end fail by its text: it is cut, and what no store takes is replaced", async () => {
    const damages = ["a\u0000b\u001b[2Jc\nd", "x".repeat(10_000), `${"y".repeat(4095)}\u{1f600}`];
    await using opened = await openLink(
      partialNode({
        stopSandbox: async () => ({ damages }),
        async prepare() {
          throw Object.assign(new Error(`no\u0000${"z".repeat(5000)}`), { code: "any text", syscall: "\u0007" });
        },
      }),
    );
    assert.deepEqual(await opened.link.stopSandbox("sbx_ord_a"), {
      damages: ["a\ufffdb\ufffd[2Jc\nd", "x".repeat(4096), `${"y".repeat(4095)}\ufffd`],
    });
    const error = (await opened.link.prepare().catch((thrown: unknown) => thrown)) as NodeJS.ErrnoException;
    assert.equal(error.message, `no\ufffd${"z".repeat(4093)}`);
    assert.deepEqual([error.code, error.syscall], [undefined, undefined]);
  });

  test("cannot tell of anything but what happens on a node, and its next event is taken", async () => {
    const events = new NodeEvents();
    const node = partialNode({ describe: async () => describing("ord"), prepare: async () => {} });
    await using opened = await openLink(node, { events });
    for (const event of [
      { kind: "sandbox-exited", sandboxId: "sbx_ord_a", cause: "any text" },
      { kind: "sandbox-exited", sandboxId: "a\u0000b", cause: "exited" },
      { kind: "background-error", work: "any text" },
      { kind: "pool-full", region: "fra", volumeIds: [] },
      { kind: "pool-full", region: "ord", volumeIds: [7] },
      { kind: "unknown" },
    ] as unknown as NodeEvent[])
      await assert.rejects(events.take(event), /no event that the server knows/, JSON.stringify(event));
    await events.take({ kind: "pool-full", region: "ord", volumeIds: ["vol_ord_a"] });
    await events.take({ kind: "volume-damaged", volumeId: "vol_ord_a", message: "a\u0000b" });
    assert.deepEqual(opened.events, [
      { kind: "pool-full", region: "ord", volumeIds: ["vol_ord_a"] },
      { kind: "volume-damaged", volumeId: "vol_ord_a", message: "a\ufffdb" },
    ]);
    await opened.link.prepare();
  });

  test("cannot fill the memory with one answer, nor with crumbs of one", async () => {
    await using opened = await openLink(
      partialNode({
        ownEnd: async () => "x".repeat(2 * 2 ** 20) as never,
        stopSandbox: async () => ({ damages: Array(256).fill("x".repeat(10_000)) }),
        prepare: async () => {},
      }),
    );
    const { link } = opened;
    for (const call of [link.ownEnd("sbx_ord_a"), link.stopSandbox("sbx_ord_a")])
      await assert.rejects(call, { code: "NODE_UNAVAILABLE", message: /gave an answer to \w+ that is not one/ });
    await link.prepare();
    const crumbs = async function* (count: number): AsyncGenerator<Buffer, void> {
      const frame = Buffer.alloc(5 + count);
      frame.writeUInt32BE(count, 1);
      for (const byte of frame) yield Buffer.of(byte);
    };
    assert.equal((await Array.fromAsync(readFrames(Readable.from(crumbs(1000))))).length, 1);
    await assert.rejects(Array.fromAsync(readFrames(Readable.from(crumbs(50_000)))), /does not speak this protocol/);
  });

  test("that describes itself as nothing is not connected to", async () => {
    const { control, node } = await makeInstallation();
    for (const value of [null, { runId: 7, regions: [] }, { runId: "run-1" }, describing("a region of its own")]) {
      await using served = await serveTestNode(node, partialNode({ describe: describer(value) }));
      assert.match(String(await problemOf(served.port, control)), /describes itself/);
    }
  });
});

const describing = (region: string): NodeDescription => ({
  ...TEST_DESCRIPTION,
  regions: [{ name: region, baseImages: [], hasReplicated: false }],
});

/** The node itself asks first, and gets what is right. */
function describer(value: unknown): Node["describe"] {
  let count = 0;
  return async () => {
    count++;
    return count > 1 ? (value as NodeDescription) : TEST_DESCRIPTION;
  };
}
