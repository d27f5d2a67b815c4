import assert from "node:assert/strict";
import { mkdtemp, readFile, readlink, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, beforeEach, suite, test } from "node:test";

// The plan of faults is read when the modules are loaded.
const faults = await mkdtemp(join(tmpdir(), "caisson-register-"));
const [planPath, tracePath] = [join(faults, "plan"), join(faults, "trace")];
await writeFile(planPath, "");
process.env.CAISSON_FAULT_PLAN = planPath;
process.env.CAISSON_FAULT_TRACE = tracePath;
const { DiskRegister } = await import("./disk-register.ts");

/** Runs the change while its first sync fails, and says afterwards how often it synced when it was repeated. */
async function failedAndRepeated(change: () => Promise<void>, repeat = change): Promise<number> {
  await writeFile(planPath, "linux.fsync 1 fail:EIO\n");
  await assert.rejects(change(), /EIO/);
  await writeFile(planPath, "");
  await writeFile(tracePath, "");
  await repeat();
  return (await readFile(tracePath, "utf8")).split("\n").filter((line) => line.startsWith("linux.fsync ")).length;
}

suite("the register of disks", () => {
  let directory: string;
  let register: Awaited<ReturnType<typeof DiskRegister.open>>;
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), "caisson-register-"));
    register = await DiskRegister.open(directory);
  });
  afterEach(async () => {
    await writeFile(planPath, "");
    await rm(directory, { recursive: true });
  });
  after(() => rm(faults, { recursive: true }));

  const linkOf = (id: string): Promise<string> => readlink(join(directory, "placed", id));

  test("the place of an image that could not be synced is synced when it is placed again, and then no more", async () => {
    const place = () => register.place("vol_a", "disk");
    assert.equal(await failedAndRepeated(place), 1);
    assert.equal(await linkOf("vol_a"), "disk");
    await writeFile(planPath, "linux.fsync 1 fail:EIO\n");
    await place();
  });

  test("the removal of a place that could not be synced is synced when it is repeated", async () => {
    await register.place("vol_a", "disk");
    assert.equal(await failedAndRepeated(() => register.displace("vol_a")), 1);
    await assert.rejects(linkOf("vol_a"), { code: "ENOENT" });
    assert.equal(register.diskOf("vol_a"), null);
  });

  test("an image that is placed again after a removal that failed has its link", async () => {
    await register.place("vol_a", "disk");
    const displace = () => register.displace("vol_a");
    assert.equal(await failedAndRepeated(displace, () => register.place("vol_a", "disk")), 1);
    assert.equal(await linkOf("vol_a"), "disk");
    assert.equal(register.diskOf("vol_a"), "disk");
  });

  test("a disk that could not be entered or forgotten is when it is repeated", async () => {
    assert.ok((await failedAndRepeated(() => register.enter({ id: "disk", directory: "/d" }))) > 0);
    assert.deepEqual((await DiskRegister.open(directory)).disks, [{ id: "disk", directory: "/d" }]);
    assert.ok((await failedAndRepeated(() => register.forget("disk"))) > 0);
    assert.deepEqual((await DiskRegister.open(directory)).disks, []);
  });

  test("what a killed process has linked and not synced is synced by the next start", async () => {
    await writeFile(planPath, "linux.fsync 1 fail:EIO\n");
    await assert.rejects(DiskRegister.open(directory), /EIO/);
  });
});
