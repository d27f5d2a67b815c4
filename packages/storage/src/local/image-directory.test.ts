import assert from "node:assert/strict";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { ImageDirectory } from "./image-directory.ts";

test("a spare that several discard at the same time is gone, and none of them fails", async () => {
  const directory = await mkdtemp(join(tmpdir(), "caisson-images-"));
  try {
    const images = new ImageDirectory(directory);
    await images.prepare();
    {
      await using spare = await images.createSpare("snp_1");
      await spare.commit(images.sparePathOf("snp_1"));
    }
    await Promise.all(Array.from({ length: 8 }, () => images.discardSpare("snp_1")));
    assert.deepEqual([await images.listSpares(), await readdir(join(directory, "trash"))], [[], []]);
  } finally {
    await rm(directory, { recursive: true });
  }
});
