import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import fc from "fast-check";
import { MIB, patternOf, readDevice, writeDevice } from "../../testing/device-io.ts";
import { makeLocalTestPool } from "../../testing/local-test-pool.ts";
import type { ImageId } from "../driver.ts";
import type { LocalStorage } from "./local-storage.ts";

/** What the pool should hold: for each image its blocks of 1 MiB, each named by the seed of its contents (`null`: zeroes). */
interface ImageModel {
  readonly isSealed: boolean;
  readonly blocks: readonly (string | null)[];
}
type Model = Map<ImageId, ImageModel>;
interface Real {
  storage: LocalStorage;
  reopen(): Promise<void>;
}
type Command = fc.AsyncCommand<Model, Real>;

/** Few of each, so that operations meet what others made. */
const IDS = ["vol_a", "vol_b", "snp_a"] as const;
const MAXIMUM_BLOCKS = 2;

describe("random sequences of operations", () => {
  const pool = makeLocalTestPool("xfs");
  let real: Real;

  before(async () => {
    const open = async (): Promise<LocalStorage> => (await (await pool).open()) as LocalStorage;
    real = {
      storage: await open(),
      async reopen() {
        await real.storage.close();
        real.storage = await open();
      },
    };
  });

  after(async () => {
    await real.storage.close();
    await (await pool).dispose();
  });

  test("the pool holds what a simple model says, image by image and block by block", async () => {
    const id = fc.constantFrom(...IDS);
    const count = fc.integer({ min: 1, max: MAXIMUM_BLOCKS });
    const writes = fc
      .tuple(id, fc.nat(MAXIMUM_BLOCKS - 1), fc.constantFrom("x", "y", "z"))
      .map(([image, at, seed]) => write(image, at, seed));
    const creates = fc
      .tuple(id, count, fc.option(fc.constantFrom("snp_a", "snp_a", "vol_a"), { freq: 3 }))
      .map(([image, blocks, parent]) => create(image, blocks, parent));
    const commands = [
      writes,
      creates,
      creates,
      fc.tuple(id, id).map(([source, target]) => seal(source, target)),
      fc.tuple(id, count).map(([image, blocks]) => grow(image, blocks)),
      id.map((image) => remove(image)),
      fc.constant(reopen()),
    ];
    await fc.assert(
      fc
        .asyncProperty(fc.commands(commands, { maxCommands: 25, size: "max" }), async (sequence) => {
          // Beginning with one image and its seal: from nothing, most random sequences would only be refused.
          const model: Model = new Map();
          for (const step of [create("vol_a", 2, null), write("vol_a", 1, "x"), seal("vol_a", "snp_a")]) {
            await step.run(model, real);
          }
          await fc.asyncModelRun(() => ({ model, real }), sequence);
        })
        .afterEach(async () => {
          for (const image of IDS) await real.storage.deleteImage(image);
        }),
      { numRuns: Number(process.env.CAISSON_TEST_MODEL_RUNS ?? 10), endOnFailure: true },
    );
  });
});

/** A step that may succeed or be refused, as the model decides; afterwards everything in the pool is compared. */
function command(name: string, decide: (model: Model) => Model | null, run: (real: Real) => Promise<void>): Command {
  return {
    check: () => true,
    async run(model, real) {
      const next = decide(model);
      if (next === null) await assert.rejects(run(real), { name: "CaissonError" });
      else {
        await run(real);
        for (const image of IDS) {
          const state = next.get(image);
          if (state === undefined) model.delete(image);
          else model.set(image, state);
        }
      }
      await compare(model, real);
    },
    toString: () => name,
  };
}

function create(id: ImageId, blocks: number, parentId: ImageId | null): Command {
  const name = `create ${id} with ${blocks}${parentId === null ? "" : ` from ${parentId}`}`;
  return command(
    name,
    (model) => {
      const existing = model.get(id);
      if (existing !== undefined) return !existing.isSealed && existing.blocks.length === blocks ? model : null;
      const parent = parentId === null ? { isSealed: true, blocks: [] } : model.get(parentId);
      if (parent === undefined || !parent.isSealed || parent.blocks.length > blocks) return null;
      const contents = Array.from({ length: blocks }, (_, index) => parent.blocks[index] ?? null);
      return new Map(model).set(id, { isSealed: false, blocks: contents });
    },
    ({ storage }) =>
      storage.createImage(id, { sizeBytes: blocks * MIB, ...(parentId === null ? {} : { parent: parentId }) }),
  );
}

function write(id: ImageId, at: number, seed: string): Command {
  return command(
    `write ${id} at ${at}`,
    (model) => {
      const image = model.get(id);
      if (image === undefined || image.isSealed) return null;
      return new Map(model).set(id, {
        ...image,
        blocks: image.blocks.map((old, index) => (index === at ? seed : old)),
      });
    },
    async ({ storage }) => {
      const device = await storage.attach(id, "rw");
      try {
        const { sizeBytes = 0 } = (await storage.getImage(id)) ?? {};
        if ((at + 1) * MIB <= sizeBytes) await writeDevice(device.path, patternOf(seed, MIB), at * MIB);
      } finally {
        await storage.detach(device);
      }
    },
  );
}

function seal(source: ImageId, target: ImageId): Command {
  return command(
    `seal ${source} as ${target}`,
    (model) => {
      const existing = model.get(target);
      if (existing !== undefined) return existing.isSealed ? model : null;
      const image = model.get(source);
      return image === undefined ? null : new Map(model).set(target, { ...image, isSealed: true });
    },
    async ({ storage }) => void (await storage.sealImage(source, target)),
  );
}

function grow(id: ImageId, blocks: number): Command {
  return command(
    `grow ${id} to ${blocks}`,
    (model) => {
      const image = model.get(id);
      if (image === undefined || image.isSealed || blocks < image.blocks.length) return null;
      const contents = Array.from({ length: blocks }, (_, index) => image.blocks[index] ?? null);
      return new Map(model).set(id, { ...image, blocks: contents });
    },
    ({ storage }) => storage.growImage(id, blocks * MIB),
  );
}

function remove(id: ImageId): Command {
  return command(
    `delete ${id}`,
    (model) => {
      const next = new Map(model);
      next.delete(id);
      return next;
    },
    ({ storage }) => storage.deleteImage(id),
  );
}

function reopen(): Command {
  return command(
    "reopen",
    (model) => model,
    (real) => real.reopen(),
  );
}

async function compare(model: Model, { storage }: Real): Promise<void> {
  const found = new Map<ImageId, boolean>();
  for await (const { id, isSealed } of storage.listImages()) found.set(id, isSealed);
  const expected = [...model].map(([id, { isSealed }]): [ImageId, boolean] => [id, isSealed]);
  assert.deepEqual([...found].toSorted(), expected.toSorted());
  for (const [id, { blocks }] of model) {
    const device = await storage.attach(id, "ro");
    try {
      const contents = Buffer.concat(blocks.map((seed) => (seed === null ? Buffer.alloc(MIB) : patternOf(seed, MIB))));
      assert.ok(contents.equals(await readDevice(device.path)), `the contents of ${id}`);
    } finally {
      await storage.detach(device);
    }
  }
}
