import assert from "node:assert/strict";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, beforeEach, suite, test } from "node:test";
import { testTimeoutMs } from "@caisson/linux/testing";
import { Sandbox } from "@deno/sandbox";
import { TestClient } from "./support/client.ts";
import { eventually } from "./support/eventually.ts";
import { FaultPlan, type FaultPoint } from "./support/fault-plan.ts";
import { TestServer } from "./support/server.ts";

interface Detailed {
  readonly status: string;
  readonly stopReason: string | null;
}

/** Makes the kernel believe that the mounted file system of the volume is broken. */
async function breakFileSystem(volumeId: string): Promise<void> {
  for (const name of (await readdir("/sys/block")).filter((entry) => entry.startsWith("loop"))) {
    const backing = await readFile(`/sys/block/${name}/loop/backing_file`, "utf8").catch(() => "");
    if (backing.includes(volumeId)) return writeFile(`/sys/fs/ext4/${name}/trigger_fs_error`, "test");
  }
  assert.fail(`${volumeId} is not attached`);
}

/** The first `count` tries of a step. */
const tries = (tag: string, count: number): readonly FaultPoint[] =>
  Array.from({ length: count }, (_, index) => ({ tag, occurrence: index + 1 }));

/** An end that fails is tried again until it is done; what it holds stays held until then, and is free afterwards without a restart. */
suite("the end of a sandbox", { timeout: testTimeoutMs(900_000) }, () => {
  let directory: string;
  let plan: FaultPlan;
  let server: TestServer;
  let client: TestClient;
  let sandbox: Sandbox;
  let volume = "";
  let count = 0;

  before(async () => {
    directory = await mkdtemp(join(tmpdir(), "caisson-ending-"));
    plan = new FaultPlan(directory);
    await plan.reset();
    server = await TestServer.start({ env: plan.env, settings: "[volumes]\nusage_interval_seconds = 1\n" });
    Object.assign(process.env, server.clientEnv());
    client = new TestClient(server);
  });
  after(async () => {
    await server?.[Symbol.asyncDispose]();
    await rm(directory, { recursive: true });
  });
  beforeEach(async () => {
    volume = `held-${++count}`;
    await client.createVolume(volume);
    sandbox = await Sandbox.create({ timeout: "5m", volumes: { "/v": volume } });
    await sandbox.fs.writeTextFile("/v/file", volume);
  });
  afterEach(() => plan.reset());

  const kill = () => server.request(`/api/v3/sandbox/${sandbox.id}`, { method: "DELETE" });
  const get = () => client.rest<Detailed>("GET", `/api/v3/sandbox/${sandbox.id}`);
  const assertFree = async (): Promise<void> => {
    const text = await client.with({ volumes: { "/v": volume } }, (next) => next.fs.readTextFile("/v/file"));
    assert.equal(text, volume);
  };
  const assertEndedOnce = async (): Promise<void> => {
    const events = await client.rest<{ verb: string }[]>("GET", `/api/v1/events?object=${sandbox.id}`);
    assert.deepEqual(
      events.map(({ verb }) => verb),
      ["sandbox-end", "sandbox-create"],
    );
  };

  for (const tag of [
    "sandbox-end.intent:before",
    "sandbox-start.run.undo:before",
    "linux.umount",
    "volume-mount.unmount:before",
    "volume-mount.unmount:after",
    "volume-mount.detach:before",
    "volume-mount.detach:after",
    "sandbox-start.mount.undo:after",
    "sandbox-create.start.undo:after",
    "sandbox-end.commit:before",
    "sandbox-end.commit:after",
    "database.commit",
  ]) {
    test(`that fails three times at ${tag} is a kill that answers 204, and the volume is free`, async () => {
      await plan.at(tries(tag, 3), "fail:EBUSY");
      assert.equal((await kill()).status, 204);
      const { status, stopReason } = await get();
      assert.deepEqual([status, stopReason], ["stopped", "killed"]);
      const passed = await plan.passed();
      assert.ok(
        passed.some((point) => point.tag === tag && point.occurrence === 3),
        "it failed three times",
      );
      await assertFree();
      await assertEndedOnce();
    });
  }

  test("does not make its caller wait for the scratch disk and the place, which are given back all the same", async () => {
    await plan.at([{ tag: "sandbox-give-back.scratch:before", occurrence: 1 }], "wait");
    assert.equal((await kill()).status, 204);
    assert.equal((await get()).status, "stopped");
    await assertFree();
    const passed = (await plan.passed()).filter(({ tag }) => tag.startsWith("sandbox-give-back."));
    assert.equal(passed[0]?.tag, "sandbox-give-back.scratch:before");
    await plan.reset();
    await eventually("the scratch disk and the place", async () => {
      const tags = (await plan.passed()).map(({ tag }) => tag);
      return tags.includes("sandbox-give-back.scratch:after") && tags.includes("sandbox-give-back.place:after")
        ? true
        : null;
    });
    await assertEndedOnce();
  });

  test("that takes longer than a kill waits is answered with 202, holds its volume, and comes to its end by itself", async () => {
    // Pauses of 50 ms that double: the ninth try comes after more than 12 s.
    await plan.at(tries("volume-mount.unmount:before", 9), "fail:EBUSY");
    const answer = await kill();
    assert.equal(answer.status, 202);
    assert.deepEqual(await answer.json(), { id: sandbox.id, status: "stopping" });
    assert.equal((await get()).status, "stopping");
    assert.equal((await client.refused("DELETE", `/api/v2/volumes/${volume}`))[0], "409 VOLUME_IN_USE");
    await eventually("the end", async () => ((await get()).status === "stopped" ? true : null), 60_000);
    await assertFree();
    await assertEndedOnce();
  });

  test("that could not store everything says so to the one who asked for it, in the trail, and with the volume until that is acknowledged", async () => {
    await plan.at(tries("linux.syncfs", 1), "fail:EIO");
    const answer = await kill();
    assert.equal(answer.status, 409);
    const { code, message } = (await answer.json()) as { code: string; message: string };
    assert.equal(code, "DATA_LOST");
    assert.match(message, new RegExp(`${sandbox.id} has ended.*vol_ord_.*not synced`));
    const ended = await client.rest<Detailed & { damages: string[] }>("GET", `/api/v3/sandbox/${sandbox.id}`);
    assert.equal(ended.status, "stopped");
    assert.match(ended.damages.join(), /^Volume vol_ord_.*lost/);

    const read = () => client.extended<{ id: string; last_error: unknown }>("GET", `/api/v2/volumes/${volume}`);
    const { id, last_error } = await read();
    assert.match(JSON.stringify(last_error), /"message":".*lost.*","at":"20/);
    const events = await client.rest<{ verb: string; outcome: string }[]>("GET", `/api/v1/events?object=${id}`);
    assert.deepEqual([events[0]?.verb, events[0]?.outcome], ["volume-damage", "DATA_LOST"]);
    // The volume can be used, and looks damaged until somebody says that it is known.
    await assertFree();
    assert.notEqual((await read()).last_error, null);
    const acknowledge = `/api/v2/volumes/${volume}/acknowledge`;
    assert.equal((await client.extended<{ last_error: unknown }>("POST", acknowledge)).last_error, null);
    assert.equal((await read()).last_error, null);
    await client.extended("POST", acknowledge);
  });

  test("whose volume's file system found an error in itself says so, and the volume looks damaged while it runs", async () => {
    const read = () =>
      client.extended<{ id: string; last_error: { message: string } | null }>("GET", `/api/v2/volumes/${volume}`);
    const { id } = await read();
    await sandbox.sh`sync`;
    await breakFileSystem(id);
    await eventually("the error", async () => ((await read()).last_error === null ? null : true));
    assert.match((await read()).last_error?.message ?? "", /must be checked: the file system found \d+ error/);
    assert.deepEqual([(await kill()).status, (await get()).status], [409, "stopped"]);
    // The next mount has it checked and repaired.
    await assertFree();
    await client.extended("POST", `/api/v2/volumes/${volume}/acknowledge`);
  });

  test("that keeps failing does not keep the server from ending, and the next start frees the volume", async () => {
    await plan.at(tries("volume-mount.unmount:before", 1000), "fail:EBUSY");
    const killing = kill().then(({ status }) => status);
    await eventually("the first failure", () => (/"work":"sandbox-end"/.test(server.logText()) ? true : null));
    await server.stop();
    assert.notEqual(await killing.catch(() => 0), 204);
    await plan.reset();
    await server.start();
    Object.assign(process.env, server.clientEnv());
    await assertFree();
  });
});
