import assert from "node:assert/strict";
import { glob, readFile, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { suite, test } from "node:test";

const root = join(import.meta.dirname, "..");

suite("documents", () => {
  test("every test file that GUARANTEES.md names exists, so that no promise rests on a file that was renamed", async () => {
    const text = await readFile(join(root, "GUARANTEES.md"), "utf8");
    const paths = new Set(
      [...text.matchAll(/`((?:tests|packages|bench|python)\/[\w./-]+\.(?:ts|py))`/g)].map(([, path]) => path ?? ""),
    );
    assert.ok(paths.size > 10);
    for (const path of paths) await assert.doesNotReject(stat(join(root, path)), `GUARANTEES.md names ${path}`);
  });

  test("every file that a document links to exists", async () => {
    const names = await Array.fromAsync(
      glob(["*.md", "docs/**/*.md", "packages/sdk/README.md", "python/README.md"], { cwd: root }),
    );
    let count = 0;
    for (const name of names) {
      const text = await readFile(join(root, name), "utf8");
      for (const [, target] of text.matchAll(/\]\((?!https?:)([^)#]+)/g)) {
        await assert.doesNotReject(stat(join(root, dirname(name), target ?? "")), `${name} links to ${target}`);
        count += 1;
      }
    }
    assert.ok(count > 20, `${count} links in ${names.length} documents`);
  });
});
