import assert from "node:assert/strict";
import { mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import { lockFile, runTool } from "@caisson/linux";
import { assertNoLeaks } from "@caisson/linux/testing";
import { ensureBaseImage } from "./ensure-base-image.ts";
import { type ImageInputs, imageKey, readImageInputs } from "./host-inputs.ts";

suite("built-in image", () => {
  let directory: string;
  let inputs: ImageInputs;
  before(async () => {
    directory = await mkdtemp(join(tmpdir(), "caisson-image-"));
    inputs = await readImageInputs();
  });
  after(() => rm(directory, { recursive: true }));

  test("the key changes with everything that goes into the image", () => {
    const variants: readonly ImageInputs[] = [
      inputs,
      { ...inputs, certificates: [{ name: "a.crt", content: "A" }] },
      { ...inputs, apt: { ...inputs.apt, options: ['Acquire::ForceIPv4 "true";'] } },
      {
        ...inputs,
        apt: { ...inputs.apt, sources: [{ uri: "http://other.example", suite: "trixie", components: ["main"] }] },
      },
      { ...inputs, node: { ...inputs.node, version: "24.0.0" } },
      { ...inputs, npm: { ...inputs.npm, version: "11.0.0" } },
      { ...inputs, architecture: "arm64" },
    ];
    assert.equal(new Set(variants.map(imageKey)).size, variants.length);
    assert.equal(imageKey({ ...inputs }), imageKey(inputs));
  });

  test("an image in the cache is used as it is", async () => {
    const cacheDirectory = join(directory, "cached");
    await mkdir(cacheDirectory);
    await writeFile(join(cacheDirectory, `${imageKey(inputs)}.ext4`), "content");
    const phases: string[] = [];
    const image = await ensureBaseImage({ cacheDirectory, inputs, onProgress: ({ phase }) => phases.push(phase) });
    assert.deepEqual([image.key, image.sizeBytes, phases], [imageKey(inputs), 7, ["done"]]);
  });

  test("a builder waits for another one and takes its image", async () => {
    const cacheDirectory = join(directory, "waiting");
    await mkdir(cacheDirectory);
    const { promise: waiting, resolve } = Promise.withResolvers<void>();
    const lock = await lockFile(join(cacheDirectory, ".lock"));
    const building = ensureBaseImage({
      cacheDirectory,
      inputs,
      onProgress: ({ phase }) => phase === "waiting" && resolve(),
    });
    await waiting;
    await writeFile(join(cacheDirectory, `${imageKey(inputs)}.ext4`), "from the other one");
    await lock[Symbol.asyncDispose]();
    assert.equal((await building).sizeBytes, 18);
  });

  test("an aborted build leaves no file and no process, and what a killed one left is removed", async () => {
    const cacheDirectory = join(directory, "aborted");
    await mkdir(join(cacheDirectory, ".build-killed"), { recursive: true });
    const controller = new AbortController();
    const building = ensureBaseImage({
      cacheDirectory,
      inputs,
      signal: controller.signal,
      onProgress: ({ message }) => message.startsWith("Downloading") && controller.abort(new Error("changed my mind")),
    });
    await assert.rejects(building, /changed my mind/);
    assert.deepEqual(await readdir(cacheDirectory), [".lock"]);
    await rm(cacheDirectory, { recursive: true });
    await assertNoLeaks({ directory: cacheDirectory });
  });

  test("a whole image is a clean ext4 file system with what sandboxes need", async () => {
    const { path, sizeBytes } = await ensureBaseImage({ inputs });
    assert.ok(sizeBytes < 2 * 2 ** 30);
    await runTool("e2fsck", ["-fn", path]);
    const stat = async (name: string): Promise<string> => runTool("debugfs", ["-R", `stat ${name}`, path]);
    for (const name of [
      "/app",
      "/home/app",
      "/.caisson",
      "/usr/local/bin/node",
      "/usr/local/bin/deno",
      "/usr/bin/git",
      "/usr/bin/sudo",
    ]) {
      assert.match(await stat(name), /Inode: \d+/, name);
    }
    const sources = await runTool("debugfs", ["-R", "cat /etc/apt/sources.list.d/debian.sources", path]);
    for (const { uri } of inputs.apt.sources) assert.ok(sources.includes(uri));
  });
});
