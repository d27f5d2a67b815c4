import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";
import { sha1 } from "./sha1.ts";

test("the digest is the same as OpenSSL's for every length around the edges of blocks", () => {
  for (let length = 0; length <= 200; length += 1) {
    const text = "caisson!".repeat(25).slice(0, length);
    assert.equal(
      Buffer.from(sha1(text)).toString("hex"),
      createHash("sha1").update(text).digest("hex"),
      `${length} characters`,
    );
  }
});
