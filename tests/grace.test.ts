import assert from "node:assert/strict";
import { after, before, suite, test } from "node:test";
import { Sandbox } from "@deno/sandbox";
import { shell, TestClient } from "./support/client.ts";
import { TestServer } from "./support/server.ts";

const GRACE_MS = 6_000;

/** At the end programs that take SIGTERM may save their state. */
suite("the last moments of programs", () => {
  let server: TestServer;
  let client: TestClient;
  let count = 0;
  before(async () => {
    server = await TestServer.start({ settings: `[sandboxes]\nstop_grace_seconds = ${GRACE_MS / 1000}\n` });
    Object.assign(process.env, server.clientEnv());
    client = new TestClient(server);
  });
  after(() => server?.[Symbol.asyncDispose]());
  /** Starts a program in the background, ends the sandbox and returns what the volume holds and how long the end took. */
  async function endWith(script: string): Promise<readonly [text: string, tookMs: number]> {
    count += 1;
    const volume = `state-${count}`;
    await client.createVolume(volume);
    const sandbox = await Sandbox.create({ volumes: { "/state": volume } });
    await sandbox.spawn("bash", { args: ["-c", script], cwd: "/state", stdout: "null", stderr: "null" });
    await shell(sandbox, "while ! [ -e /state/ready ]; do sleep 0.01; done");
    const startedMs = performance.now();
    await sandbox.kill();
    const tookMs = performance.now() - startedMs;
    const text = await client.with({ volumes: { "/state": volume } }, (next) => shell(next, "cat /state/text || true"));
    return [text, tookMs];
  }

  test("a program that takes SIGTERM has the time to save its state", async () => {
    const [text] = await endWith(
      "trap 'sleep 0.5; echo saved >text; exit' TERM; touch ready; while :; do sleep 0.05; done",
    );
    assert.equal(text, "saved");
  });

  test("so has one that is stopped, and one whose starter is gone", async () => {
    const daemon = "trap 'echo saved >text; exit' TERM; touch ready; kill -STOP $$; while :; do sleep 0.05; done";
    const [text] = await endWith(`cat >daemon <<'END'\n${daemon}\nEND\n(setsid bash daemon &); sleep 1000`);
    assert.equal(text, "saved");
  });

  test("one that never comes to its end is killed when the time is over", async () => {
    const [text, tookMs] = await endWith("trap 'echo asked >text' TERM; touch ready; while :; do sleep 0.05; done");
    assert.equal(text, "asked");
    assert.ok(tookMs >= GRACE_MS, `${tookMs} ms`);
  });

  test("an end is not slower where nobody takes the signal, or where it is ignored", async () => {
    for (const script of ["touch ready; sleep 1000", "trap '' TERM; touch ready; while :; do sleep 0.05; done"]) {
      const [, tookMs] = await endWith(script);
      assert.ok(tookMs < GRACE_MS, `${tookMs} ms: ${script}`);
    }
  });

  test("a shell in a terminal does not hold the end up", async () => {
    const [, tookMs] = await endWith("touch ready; tail -f /dev/null | script -qc 'bash -i' /dev/null");
    assert.ok(tookMs < GRACE_MS, `${tookMs} ms`);
  });
});
