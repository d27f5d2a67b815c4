import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { after, before, describe, test } from "node:test";
import type { ImageId, StorageDriver } from "../src/driver.ts";
import { MIB, patternOf, writeDevice } from "./device-io.ts";
import { callDriver, type DriverCall } from "./driver-call.ts";
import type { TestPool } from "./test-pool.ts";

/**
 * What a crash leaves. Each operation runs in a process of its own, which a fault point kills; then the pool is opened again, and the
 * operation must have happened wholly or not at all, and must succeed when it is repeated.
 */
export interface CrashSubject {
  pool(): TestPool;
  driver(): StorageDriver;
  reopen(): Promise<void>;
  setDriver(driver: StorageDriver): void;
  /** Whether the pool can be cut off from power. */
  readonly hasPowerCut: boolean;
  /** Every so many fault points are tried; all with `CAISSON_TEST_CRASH=all`. */
  readonly pointStride: number;
}

interface CrashOperation {
  readonly call: DriverCall;
  /** The image that the operation makes, changes or removes. */
  readonly id: ImageId;
  /** What it is when the operation has not happened, and when it has: size and contents, or nothing. */
  readonly before: Expected;
  readonly after: Expected;
}

type Expected = { readonly sizeBytes: number; readonly hash: "base" | "blank" | "grown" } | null;

const BASE_BYTES = 8 * MIB;
const GROWN_BYTES = 12 * MIB;

const OPERATIONS: Readonly<Record<string, CrashOperation>> = {
  "creating a blank image": {
    call: ["createImage", "vol_new", { sizeBytes: BASE_BYTES }],
    id: "vol_new",
    before: null,
    after: { sizeBytes: BASE_BYTES, hash: "blank" },
  },
  "cloning a larger image": {
    call: ["createImage", "vol_new", { sizeBytes: GROWN_BYTES, parent: "snp_base" }],
    id: "vol_new",
    before: null,
    after: { sizeBytes: GROWN_BYTES, hash: "grown" },
  },
  sealing: {
    call: ["sealImage", "vol_base", "snp_new"],
    id: "snp_new",
    before: null,
    after: { sizeBytes: BASE_BYTES, hash: "base" },
  },
  "filling a sealed image": {
    call: ["createSealed", "snp_new", { sizeBytes: BASE_BYTES, seed: "base", offset: MIB, length: 5 * MIB }],
    id: "snp_new",
    before: null,
    after: { sizeBytes: BASE_BYTES, hash: "base" },
  },
  growing: {
    call: ["growImage", "vol_victim", GROWN_BYTES],
    id: "vol_victim",
    before: { sizeBytes: BASE_BYTES, hash: "base" },
    after: { sizeBytes: GROWN_BYTES, hash: "grown" },
  },
  deleting: {
    call: ["deleteImage", "vol_victim"],
    id: "vol_victim",
    before: { sizeBytes: BASE_BYTES, hash: "base" },
    after: null,
  },
};

function sample(points: readonly string[], stride: number): readonly string[] {
  return process.env.CAISSON_TEST_CRASH === "all" ? points : points.filter((_, index) => index % stride === 0);
}

export function describeCrashConformance(subject: CrashSubject): void {
  describe("after a crash", () => {
    let directory = "";
    const hashes = { base: "", blank: "", grown: "" };

    const hash = async (id: ImageId): Promise<string> => {
      const sizeBytes = (await subject.driver().getImage(id))?.sizeBytes ?? 0;
      const contents = await subject.driver().read(id, 0, sizeBytes);
      return createHash("sha256").update(contents).digest("hex");
    };

    const perform = ({ call }: CrashOperation): Promise<void> => callDriver(subject.driver(), call);

    /** Runs the operation in a process of its own, with a plan of faults, and says how it ended and which points it passed. */
    const runApart = async (operation: CrashOperation, plan: string): Promise<CrashOutcome> => {
      await subject.driver().close();
      try {
        return await runCrashOperation(subject.pool().crashCommand, directory, operation.call, plan);
      } finally {
        subject.setDriver(await subject.pool().open());
      }
    };

    const check = async ({ id }: CrashOperation, allowed: readonly Expected[], where: string): Promise<void> => {
      assert.deepEqual(await subject.pool().findDebris(), [], where);
      const image = await subject.driver().getImage(id);
      const actual = image === null ? null : { sizeBytes: image.sizeBytes, hash: await hash(id) };
      const expected = allowed.map((state) => (state === null ? null : { ...state, hash: hashes[state.hash] }));
      const isAllowed = expected.some((state) => JSON.stringify(state) === JSON.stringify(actual));
      assert.ok(isAllowed, `${where}: ${id} is ${JSON.stringify(actual)}, allowed is ${JSON.stringify(expected)}`);
      assert.deepEqual([await hash("vol_base"), await hash("snp_base")], [hashes.base, hashes.base], where);
    };

    const reset = async (): Promise<void> => {
      for (const id of ["vol_new", "snp_new", "vol_victim"]) await subject.driver().deleteImage(id);
      await subject.driver().createImage("vol_victim", { sizeBytes: BASE_BYTES, parent: "snp_base" });
    };

    before(async () => {
      directory = await mkdtemp(join(tmpdir(), "caisson-crash-"));
      const driver = subject.driver();
      await driver.createImage("vol_blank", { sizeBytes: BASE_BYTES });
      hashes.blank = await hash("vol_blank");
      await driver.deleteImage("vol_blank");
      await driver.createImage("vol_base", { sizeBytes: BASE_BYTES });
      const device = await driver.attach("vol_base", "rw");
      await writeDevice(device.path, patternOf("base", 5 * MIB), MIB);
      await driver.detach(device);
      hashes.base = await hash("vol_base");
      await driver.sealImage("vol_base", "snp_base");
      await driver.createImage("vol_grown", { sizeBytes: GROWN_BYTES, parent: "snp_base" });
      hashes.grown = await hash("vol_grown");
      await driver.deleteImage("vol_grown");
    });

    after(async () => {
      for (const id of ["vol_new", "snp_new", "vol_victim", "vol_base", "snp_base"])
        await subject.driver().deleteImage(id);
      await rm(directory, { recursive: true });
    });

    for (const [name, operation] of Object.entries(OPERATIONS)) {
      test(`${name} has happened wholly or not at all, wherever the process was killed`, async () => {
        await reset();
        const { points, isDone } = await runApart(operation, "");
        assert.ok(isDone);
        assert.ok(points.length >= 4, `expected several fault points, passed ${points.join(", ")}`);
        await check(operation, [operation.after], "undisturbed");
        for (const point of sample(points, subject.pointStride)) {
          await reset();
          const outcome = await runApart(operation, `${point} kill`);
          assert.equal(outcome.isKilled, true, `killed at ${point}`);
          await check(
            operation,
            outcome.isDone ? [operation.after] : [operation.before, operation.after],
            `killed at ${point}`,
          );
          await perform(operation);
          await check(operation, [operation.after], `again after ${point}`);
        }
      });

      test(`${name} leaves a clean slate where a call failed, and succeeds when it is repeated at once`, async () => {
        await reset();
        const { points } = await runApart(operation, "");
        for (const point of sample(
          points.filter((name) => !name.startsWith("operation:")),
          subject.pointStride,
        )) {
          await reset();
          const outcome = await runApart(operation, `${point} fail:EIO`);
          assert.match(outcome.error, /EIO/, `${point} is reported`);
          // What a failed removal did not get to goes when it is repeated; nothing else may leave anything.
          if (operation.after !== null) assert.equal(outcome.debris, "", `${point} leaves nothing`);
          assert.ok(outcome.isDone, `again after ${point}`);
          await check(operation, [operation.after], `again after ${point}`);
        }
      });

      if (!subject.hasPowerCut) continue;
      test(`${name} outlives a power cut at the instant of its acknowledgement`, async () => {
        const { cutPower } = subject.pool();
        assert.ok(cutPower);
        await reset();
        // What came before is flushed, so that only the operation itself can be lost.
        await subject.reopen();
        await perform(operation);
        await cutPower(subject.driver());
        subject.setDriver(await subject.pool().open());
        await check(operation, [operation.after], "after the power cut");
      });
    }
  });
}

export interface CrashOutcome {
  readonly isDone: boolean;
  readonly isKilled: boolean;
  /** The first attempt's error, when a fault was to fail rather than kill. */
  readonly error: string;
  readonly debris: string;
  /** `<tag> <occurrence>` of each fault point that was passed. */
  readonly points: readonly string[];
}

/** Runs `call` in a process of its own under a plan of faults, and says how that ended. */
export async function runCrashOperation(
  command: readonly string[],
  directory: string,
  call: readonly unknown[],
  plan: string,
): Promise<CrashOutcome> {
  const [planPath, tracePath, requestPath] = ["plan", "trace", "request"].map((name) => join(directory, name)) as [
    string,
    string,
    string,
  ];
  await writeFile(planPath, "");
  await writeFile(tracePath, "");
  await writeFile(requestPath, JSON.stringify({ call, plan }));
  const [program = "", ...args] = command;
  const child = spawn(program, [...args, requestPath], {
    stdio: ["ignore", "pipe", "inherit"],
    env: { ...process.env, CAISSON_FAULT_PLAN: planPath, CAISSON_FAULT_TRACE: tracePath },
  });
  const [output, [code, signal]] = await Promise.all([text(child.stdout), once(child, "exit")]);
  const lines = output.split("\n");
  const textAfter = (key: string): string =>
    lines.find((line) => line.startsWith(`${key} `))?.slice(key.length + 1) ?? "";
  const trace = (await readFile(tracePath, "utf8")).split("\n").filter((line) => line !== "");
  return {
    isDone: lines.includes("done"),
    isKilled: code === 137 || signal === "SIGKILL",
    error: textAfter("error"),
    debris: textAfter("debris"),
    points: trace.slice(trace.indexOf("operation:start 1") + 1, trace.indexOf("operation:end 1") + 1 || undefined),
  };
}
