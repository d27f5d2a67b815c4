import assert from "node:assert/strict";
import { mkdir, symlink, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { Sandbox } from "@deno/sandbox";
import fc from "fast-check";
import { useAgent } from "../../tests/agent-fixture.ts";
import { TestGateway } from "../../tests/test-gateway.ts";

interface Entry {
  readonly path: string;
  readonly name: string;
  readonly isFile: boolean;
  readonly isDirectory: boolean;
  readonly isSymlink: boolean;
}

interface StdFs {
  readonly walk: (root: string, options: object) => AsyncIterable<Entry>;
  readonly expandGlob: (glob: string, options: object) => AsyncIterable<Entry>;
}

/** The Deno standard library as the official client ships it: the agent has to find what it finds (protocol.md 4.2.1). */
const stdFs = join(
  dirname(createRequire(import.meta.url).resolve("@deno/sandbox")),
  "../esm/deps/jsr.io/@std/fs/1.0.23",
);
const std: StdFs = Object.assign(
  {},
  ...(await Promise.all(["walk", "expand_glob"].map((file) => import(join(stdFs, `${file}.js`))))),
);

let tree: string;

const at = useAgent(async ({ home }) => {
  tree = join(home, "tree");
  for (const path of ["a", "a/b", "a/b/c", "a/[x]", "dir.ts", "empty", "**", "Upper"])
    await mkdir(join(tree, path), { recursive: true });
  const files = [
    "a.ts",
    "a/one.ts",
    "a/two.js",
    "a/b/three.ts",
    "a/b/c/four.TS",
    "a/[x]/five.ts",
    "dir.ts/six",
    ".hidden",
    "**/seven",
    "Upper/é.ts",
  ];
  for (const path of files) await writeFile(join(tree, path), "");
  await symlink("a.ts", join(tree, "link-to-file"));
  await symlink("b", join(tree, "a/link-to-directory"));
  await symlink("nowhere", join(tree, "empty/dangling"));
  await symlink("a/b", join(tree, "link-to-b"));
  // The library resolves relative paths from the working directory, the agent from its default directory.
  process.chdir(home);
});

async function withSandbox<T>(run: (sandbox: Sandbox) => Promise<T>): Promise<T> {
  await using gateway = await TestGateway.start(at.agent.socketPath);
  await using sandbox = await Sandbox.create(gateway.options);
  return await run(sandbox);
}

/** The entries or the code of the error. Directories are listed in no particular order, so the entries of a walk are sorted. */
async function outcome(entries: AsyncIterable<Entry>, isSorted: boolean): Promise<readonly Entry[] | string> {
  try {
    const list = (await Array.fromAsync(entries)).map(({ path, name, isFile, isDirectory, isSymlink }) => ({
      path,
      name,
      isFile,
      isDirectory,
      isSymlink,
    }));
    return isSorted ? list : list.sort((a, b) => (a.path < b.path ? -1 : a.path > b.path ? 1 : 0));
  } catch (error) {
    // Off Deno, the library's errors have codes and no classes.
    if (!(error instanceof Error)) return String(error);
    return "code" in error && typeof error.code === "string" ? error.code : error.constructor.name;
  }
}

test("walk finds what the Deno standard library finds", async () => {
  const roots = fc.constantFrom(
    "tree",
    "./tree/",
    ".",
    "tree/a",
    "tree/a/../a",
    "tree/a.ts",
    "tree/link-to-b",
    "tree/missing",
    "tree/empty",
  );
  const patterns = fc.option(fc.subarray([/b/, /\.ts$/, /ONE/i, /^tree/g, /é/u], { minLength: 1 }), { nil: undefined });
  const flag = fc.option(fc.boolean(), { nil: undefined });
  const options = fc.record({
    maxDepth: fc.option(fc.integer({ min: -1, max: 4 }), { nil: undefined }),
    includeFiles: flag,
    includeDirs: flag,
    includeSymlinks: flag,
    followSymlinks: flag,
    canonicalize: flag,
    exts: fc.option(fc.subarray(["ts", ".js", "TS"], { minLength: 1 }), { nil: undefined }),
    match: patterns,
    skip: patterns,
  });
  await withSandbox((sandbox) =>
    fc.assert(
      fc.asyncProperty(roots, fc.boolean(), options, async (relative, isAbsolute, how) => {
        // The tree has no cycle of links below its directories; following them all from above would repeat "b" a few times only.
        const root = isAbsolute ? join(at.agent.home, relative) : relative;
        const expected = await outcome(std.walk(root, how), false);
        assert.deepEqual(await outcome(sandbox.fs.walk(root, how as object), false), expected);
      }),
      { numRuns: 120 },
    ),
  );
});

test("expandGlob finds what the Deno standard library finds, in its order", async () => {
  const part = fc.constantFrom(
    "*",
    "**",
    "a",
    "b",
    "*.ts",
    "*.{ts,js}",
    "?",
    "..",
    ".",
    "[ab]",
    "!(a)",
    "+(a|b)",
    "link-*",
    "missing",
    "\\[x\\]",
    "\\*\\*",
    "dir.ts",
    "*É*",
    "upper",
    "",
  );
  const globs = fc
    .tuple(fc.array(part, { minLength: 1, maxLength: 4 }), fc.boolean())
    .map(([parts, isDirectory]) => `${parts.join("/")}${isDirectory ? "/" : ""}`);
  const flag = fc.option(fc.boolean(), { nil: undefined });
  const options = fc.record({
    root: fc.constantFrom("tree", "tree/a", "tree/a/"),
    exclude: fc.option(fc.subarray(["a/b", "**/*.js", "dir.ts"]), { nil: undefined }),
    includeDirs: flag,
    extended: flag,
    globstar: flag,
    caseInsensitive: flag,
    followSymlinks: flag,
    canonicalize: flag,
  });
  await withSandbox((sandbox) =>
    fc.assert(
      fc.asyncProperty(globs, options, fc.boolean(), async (relative, how, isAbsolute) => {
        const glob = isAbsolute ? join(tree, "x").slice(0, -1) + relative.replace(/^\/+/, "") : relative;
        const expected = await outcome(std.expandGlob(glob, how), true);
        assert.deepEqual(await outcome(sandbox.fs.expandGlob(glob, how as object), true), expected);
      }),
      { numRuns: 200 },
    ),
  );
});

test("a glob starts at the default directory and emits absolute paths", async () => {
  await withSandbox(async (sandbox) => {
    const paths = (await Array.fromAsync(sandbox.fs.expandGlob("tree/**/*.ts"))).map(({ path }) => path);
    assert.ok(paths.includes(join(tree, "a/b/three.ts")));
    assert.deepEqual(paths, [...paths].sort());
    assert.deepEqual(await Array.fromAsync(sandbox.fs.expandGlob("missing/*")), []);
    assert.deepEqual(
      (await Array.fromAsync(sandbox.fs.expandGlob("tree/a.ts"))).map(({ path }) => path),
      [join(tree, "a.ts")],
    );
  });
});

test("options that Python nests are used", async () => {
  const { streamId } = (await at.client.ok("walk", {
    path: "tree",
    options: { maxDepth: 1, includeFiles: false, match: [{ source: "B$", flags: "i" }] },
  })) as { streamId: number };
  assert.deepEqual(
    (await at.client.chunks(streamId)).map((chunk) => JSON.parse(String(chunk)).path),
    ["tree/link-to-b"],
  );
  const glob = (await at.client.ok("expandGlob", { glob: "*", options: { root: "tree/a/b", includeDirs: false } })) as {
    streamId: number;
  };
  assert.deepEqual(
    (await at.client.chunks(glob.streamId)).map((chunk) => JSON.parse(String(chunk)).name),
    ["three.ts"],
  );
});

test("the stream has one entry in each chunk", async () => {
  const { streamId } = (await at.client.ok("walk", { path: "tree/a" })) as { streamId: number };
  const chunks = await at.client.chunks(streamId);
  assert.deepEqual(
    chunks.map((chunk) => Object.keys(JSON.parse(String(chunk))).sort()),
    chunks.map(() => ["isDirectory", "isFile", "isSymlink", "name", "path"]),
  );
  assert.equal(chunks.length, 10);
});

test("what fails during the walk errors the stream, and a bad expression fails the call", async () => {
  const { streamId } = (await at.client.ok("walk", { path: "tree/missing" })) as { streamId: number };
  await assert.rejects(at.client.chunks(streamId), { constructorName: "NotFound", code: "ENOENT" });
  const error = await at.client.failure("walk", { path: "tree", match: [{ source: "(", flags: "" }] });
  assert.equal(error.constructorName, "SyntaxError");
  const { error: invalid } = await at.client.answer(at.client.request("walk", { path: "tree", skip: [{ flags: "" }] }));
  assert.equal(invalid?.code, -32602);
});

test("a cancelled walk sends nothing more", async () => {
  const many = join(at.directory, "many");
  await mkdir(many);
  for (let index = 0; index < 3000; index++) await writeFile(join(many, `a-file-with-a-rather-long-name-${index}`), "");
  const { streamId } = (await at.client.ok("walk", { path: many })) as { streamId: number };
  await at.client.until(() => at.client.stream(streamId).find(({ kind }) => kind === "enqueue"), "a first entry");
  at.client.notify("$sandbox.stream.cancel", { streamId, reason: null });
  await at.client.ok("stat", { path: "." });
  const count = at.client.stream(streamId).length;
  await at.client.ok("readDir", { path: many });
  assert.equal(at.client.stream(streamId).length, count);
  assert.equal(
    at.client.stream(streamId).some(({ kind }) => kind === "end"),
    false,
  );
});

test("names that are not UTF-8 end no listing: they are told with U+FFFD, and a name that has this character is entered", async () => {
  const root = Buffer.from(`${at.directory}/`);
  const bytes = (...parts: (string | number)[]) =>
    Buffer.concat([root, ...parts.map((part) => (typeof part === "string" ? Buffer.from(part) : Buffer.of(part)))]);
  await mkdir(bytes("d", 0xff));
  await writeFile(bytes("d", 0xff, "/hidden"), "");
  await writeFile(bytes("caf", 0xe9), "");
  await symlink("caf", bytes("l", 0xff));
  await mkdir(bytes("real\ufffd"));
  await writeFile(bytes("real\ufffd/inside"), "");
  const names = ["caf\ufffd", "d\ufffd", "l\ufffd", "real\ufffd", "real\ufffd/inside"];
  const entriesOf = async (method: string, params: object) => {
    const { streamId } = (await at.client.ok(method, params)) as { streamId: number };
    return (await at.client.chunks(streamId)).map((chunk): Entry => JSON.parse(String(chunk)));
  };
  for (const followSymlinks of [false, true]) {
    const walked = await entriesOf("walk", { path: at.directory, followSymlinks });
    const paths = walked.map(({ path }) => path.slice(at.directory.length + 1)).sort();
    assert.deepEqual(paths, ["", ...names]);
    assert.equal(walked.find(({ name }) => name === "d\ufffd")?.isDirectory, true);
    assert.equal(walked.find(({ name }) => name === "l\ufffd")?.isSymlink, true);
  }
  const files = await entriesOf("walk", { path: at.directory, includeDirs: false, includeSymlinks: false });
  assert.deepEqual(files.map(({ name }) => name).sort(), ["caf\ufffd", "inside"]);
  const globbed = await entriesOf("expandGlob", { glob: "**/*", root: at.directory });
  assert.deepEqual(
    globbed.map(({ path }) => path.slice(at.directory.length + 1)),
    names,
  );
  const listed = (await at.client.ok("readDir", { path: at.directory })) as Entry[];
  assert.deepEqual(listed.map(({ name }) => name).sort(), names.slice(0, 4));
});
