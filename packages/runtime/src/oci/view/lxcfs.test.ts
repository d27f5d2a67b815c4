import assert from "node:assert/strict";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite, test } from "node:test";
import { Lxcfs } from "./lxcfs.ts";

suite("lxcfs", () => {
  const open = async (directory: string, failures: string[], program?: string): Promise<Lxcfs> =>
    Lxcfs.open({
      ...(program === undefined ? {} : { program }),
      directory: join(directory, "view"),
      pidPath: join(directory, "pid"),
      onDied: async () => undefined,
      onFailure: (error) => failures.push(String(error)),
    });

  test("its files can be read until it is disposed of, which leaves no mount", async () => {
    const directory = await mkdtemp(join(tmpdir(), "caisson-lxcfs-"));
    const failures: string[] = [];
    const lxcfs = await open(directory, failures);
    assert.match(await readFile(lxcfs.files["/proc/meminfo"] ?? "", "utf8"), /^MemTotal:/);
    assert.match(await readFile(lxcfs.files["/sys/devices/system/cpu/online"] ?? "", "utf8"), /^\d/);
    await lxcfs[Symbol.asyncDispose]();
    assert.deepEqual(lxcfs.files, {});
    assert.deepEqual(failures, []);
    await rm(directory, { recursive: true });
  });

  test("one that cannot be started is told of, and shows nothing", async () => {
    const directory = await mkdtemp(join(tmpdir(), "caisson-lxcfs-"));
    await writeFile(join(directory, "broken"), "#!/bin/sh\necho out of order >&2\nexit 3\n", { mode: 0o755 });
    for (const [program, words] of [
      [join(directory, "absent"), /No such file/],
      [join(directory, "broken"), /out of order/],
    ] as const) {
      const failures: string[] = [];
      const lxcfs = await open(directory, failures, program);
      assert.deepEqual(lxcfs.files, {});
      assert.equal(failures.length, 1);
      assert.match(failures[0] ?? "", words);
      await lxcfs[Symbol.asyncDispose]();
    }
    await rm(directory, { recursive: true });
  });
});
