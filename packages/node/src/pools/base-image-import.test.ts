import assert from "node:assert/strict";
import { test } from "node:test";
import { writeWhole } from "./base-image-import.ts";

test("a write that takes less than it was given is followed by another one", async () => {
  const target = Buffer.alloc(16);
  const file = {
    async write(bytes: Uint8Array, offset: number, length: number, position: number) {
      const bytesWritten = Math.min(length, 3);
      target.set(bytes.subarray(offset, offset + bytesWritten), position);
      return { bytesWritten };
    },
  };
  await writeWhole(file, Buffer.from("0123456789"), 4);
  assert.equal(target.toString("latin1"), "\0\0\0\0" + "0123456789" + "\0\0");
});
