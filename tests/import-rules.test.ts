import assert from "node:assert/strict";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { suite, test } from "node:test";

/** Who may import whom (ARCHITECTURE.md). Tests may also use the packages named for tests. */
const ALLOWED: Readonly<Record<string, readonly string[]>> = {
  model: [],
  protocol: ["model"],
  linux: ["model"],
  storage: ["model", "linux"],
  runtime: ["model", "linux"],
  database: ["model"],
  agent: ["model", "protocol"],
  sdk: ["model", "protocol"],
  cli: ["sdk", "model"],
  server: ["model", "protocol", "linux", "storage", "runtime", "database"],
};
/** Files that compose the server and may name concrete drivers. */
const COMPOSITION = new Set(["server.ts", "main.ts", "openapi.ts"]);
const CONCRETE = /\b(OciRuntime|openLocalPool|openSqliteStore)\b/;
/** The edges of the server: they call use cases of `app/` and show what those answer. */
const EDGES = ["http", "gateway"];
/** The packages that are seams, and the members of `AppContext` that lead to one. */
const SEAM = /"@caisson\/(database|storage|runtime|linux)|\bapp\.(store|runtime|regions|locks|live)\b/;

const packagesDirectory = join(import.meta.dirname, "../packages");

async function sources(name: string): Promise<{ readonly path: string; readonly text: string }[]> {
  const directory = join(packagesDirectory, name, "src");
  const entries = await readdir(directory, { recursive: true });
  const paths = entries.filter((path) => path.endsWith(".ts"));
  return Promise.all(paths.map(async (path) => ({ path, text: await readFile(join(directory, path), "utf8") })));
}

const isTest = (path: string) => /\.test\.ts$|conformance|(^|\/)test/.test(path);

suite("import rules", () => {
  for (const [name, allowed] of Object.entries(ALLOWED)) {
    test(`${name} imports only ${allowed.join(", ") || "no sibling"}`, async () => {
      for (const { path, text } of await sources(name)) {
        for (const [, sibling] of text.matchAll(/from "@caisson\/([a-z]+)"/g)) {
          assert.ok(
            sibling === name || allowed.includes(sibling ?? "") || isTest(path),
            `${name}/src/${path} imports @caisson/${sibling}`,
          );
        }
        for (const [, target] of text.matchAll(/from "(\.\.?\/[^"]+)"/g)) {
          const resolved = join("/", name, "src", path, "..", target ?? "");
          assert.ok(
            resolved.startsWith(`/${name}/`) || isTest(path),
            `${name}/src/${path} reaches into another package: ${target}`,
          );
        }
      }
    });
  }

  test("every package is in the rules", async () => {
    assert.deepEqual((await readdir(packagesDirectory)).sort(), Object.keys(ALLOWED).sort());
  });

  test("only the composition names concrete drivers", async () => {
    for (const { path, text } of await sources("server")) {
      assert.ok(
        COMPOSITION.has(path) || isTest(path) || !CONCRETE.test(text),
        `server/src/${path} names a concrete driver`,
      );
    }
  });

  for (const edge of EDGES) {
    test(`server/src/${edge} calls use cases and names no seam`, async () => {
      const files = (await sources("server")).filter(({ path }) => path.startsWith(`${edge}/`));
      assert.notEqual(files.length, 0, `server/src/${edge} is gone: change the rule`);
      for (const { path, text } of files) {
        assert.equal(
          isTest(path) ? undefined : SEAM.exec(text)?.[0],
          undefined,
          `server/src/${path} reaches into a seam`,
        );
      }
    });
  }

  test("the members that lead to a seam are those of the context", async () => {
    const context = (await sources("server")).find(({ path }) => path === "app/context.ts")?.text ?? "";
    for (const member of ["store", "runtime", "regions", "locks", "live"]) {
      assert.match(context, new RegExp(`readonly ${member}: `), `AppContext has no ${member}: change the rule`);
    }
  });
});
