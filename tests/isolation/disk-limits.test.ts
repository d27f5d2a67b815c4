import assert from "node:assert/strict";
import { after, before, suite, test } from "node:test";
import { diskHierarchy, readCgroups } from "@caisson/linux";
import { Client, Sandbox } from "@deno/sandbox";
import { killSandbox } from "../support/kill-sandbox.ts";
import { TestServer } from "../support/server.ts";

const MIB = 2 ** 20;
const BYTES_PER_SECOND = 16 * MIB;
const COUNT_MIB = 24;
/** The kernel lets a first piece pass at once, so a little less than the exact time. */
const LEAST_MS = ((COUNT_MIB * MIB) / BYTES_PER_SECOND) * 1000 * 0.8;

const isLimitable = diskHierarchy(await readCgroups({ isDiskLimited: true })) !== null;
const skip = isLimitable ? false : "the kernel has no cgroup controller for disks";

suite("limits of a sandbox's disks", { skip }, () => {
  let server: TestServer;

  before(async () => {
    server = await TestServer.start({ settings: `[sandboxes]\ndisk_bandwidth = ${BYTES_PER_SECOND}\n` });
    Object.assign(process.env, server.clientEnv());
  });
  after(() => server?.[Symbol.asyncDispose]());

  test("a volume, the scratch disk and a root that lasts are read and written at the limit", async () => {
    const client = new Client();
    await client.volumes.create({ slug: "data", region: "ord", capacity: "300MB" });
    await client.volumes.create({ slug: "root", region: "ord", capacity: "2GB", from: "builtin:debian-13" });
    const timed = async (sandbox: Sandbox, command: string): Promise<number> => {
      const startedMs = performance.now();
      await sandbox.sh`sh -c ${command}`;
      return performance.now() - startedMs;
    };
    const check = async (options: Parameters<typeof Sandbox.create>[0], directory: string): Promise<void> => {
      await using sandbox = await Sandbox.create(options);
      const file = `${directory}/file`;
      const writeMs = await timed(
        sandbox,
        `dd status=none if=/dev/zero of=${file} bs=1M count=${COUNT_MIB} oflag=direct`,
      );
      const readMs = await timed(sandbox, `dd status=none if=${file} of=/dev/null bs=1M iflag=direct`);
      assert.ok(writeMs > LEAST_MS, `${directory}: written in ${writeMs} ms`);
      assert.ok(readMs > LEAST_MS, `${directory}: read in ${readMs} ms`);
      await killSandbox(server, sandbox.id);
    };
    await check({ volumes: { "/data": "data" } }, "/data");
    await check({}, "/tmp");
    await check({ root: "root" }, "/root");
  });
});
