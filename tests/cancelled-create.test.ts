import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, beforeEach, suite, test } from "node:test";
import { testTimeoutMs } from "@caisson/linux/testing";
import { Sandbox as CaissonSandbox } from "@caisson/sdk";
import { Sandbox } from "@deno/sandbox";
import { TestClient } from "./support/client.ts";
import { eventually } from "./support/eventually.ts";
import { FaultPlan } from "./support/fault-plan.ts";
import { killSandbox } from "./support/kill-sandbox.ts";
import { TestServer } from "./support/server.ts";

interface Listed {
  readonly id: string;
  readonly status: string;
}

interface Detailed extends Listed {
  readonly stopReason: string | null;
}

/** Far longer than any test: nothing but the undoing frees a volume. */
const LIFE_MS = 300_000;
/** Keeps the creation in its middle until `plan.reset`, so that what a client does meanwhile meets it there on a machine of any speed. */
const HELD_START = [{ tag: "sandbox-start.run:before", occurrence: 1 }] as const;

/** Whoever never got the 101 has no sandbox: whatever the client's mode, and wherever its creation was. */
suite("a create without an answer", { timeout: testTimeoutMs(900_000) }, () => {
  let directory: string;
  let plan: FaultPlan;
  let server: TestServer;
  let client: TestClient;
  let volume = "";
  let count = 0;

  before(async () => {
    directory = await mkdtemp(join(tmpdir(), "caisson-cancel-"));
    plan = new FaultPlan(directory);
    await plan.reset();
    server = await TestServer.start({ env: plan.env, settings: `log_level = "debug"\n` });
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
  });
  afterEach(() => plan.reset());

  const list = () => client.rest<Listed[]>("GET", "/api/v3/sandboxes");
  const live = async () => (await list()).filter(({ status }) => status !== "stopped");
  const newest = async (): Promise<Detailed> => {
    const [first] = await list();
    assert.ok(first !== undefined);
    return client.rest<Detailed>("GET", `/api/v3/sandbox/${first.id}`);
  };
  /** A sandbox with the same volume, at once: no wait for anybody's time-out. */
  const assertFree = async (): Promise<void> => {
    const sandbox = await Sandbox.create({ volumes: { "/v": volume } });
    assert.deepEqual(
      (await live()).map(({ id }) => id),
      [sandbox.id],
    );
    await sandbox.kill();
  };
  const beingCreated = () => eventually("a sandbox that is being created", async () => (await live())[0]);
  const config = (values: object = {}) =>
    Buffer.from(
      JSON.stringify({ volumes: { "/v": volume }, stop_at_ms: Date.now() + LIFE_MS, ...values }),
      "latin1",
    ).toString("base64");

  /** The create of a client that can be made to do what no library does. */
  async function rawCreate(
    headers: Readonly<Record<string, string>> = {},
    { isReading = true }: { readonly isReading?: boolean } = {},
  ): Promise<Socket> {
    const { hostname, port } = new URL(server.endpoint);
    const socket = connect({ host: hostname, port: Number(port), allowHalfOpen: true });
    // Before it is connected: from then on Node reads ahead.
    if (!isReading) socket.pause();
    await once(socket, "connect");
    const all = {
      Host: `${hostname}:${port}`,
      Authorization: `Bearer ${server.token}`,
      "x-deno-sandbox-config": config(),
      Connection: "Upgrade",
      Upgrade: "websocket",
      "Sec-WebSocket-Version": "13",
      "Sec-WebSocket-Key": Buffer.alloc(16, 1).toString("base64"),
      ...headers,
    };
    const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}`);
    socket.write(`GET /api/v3/sandboxes/create HTTP/1.1\r\n${lines.join("\r\n")}\r\n\r\n`);
    return socket;
  }

  test("the SDK's signal ends a creation under way, and the volume is free at once", async () => {
    await plan.at(HELD_START, "wait");
    const controller = new AbortController();
    const creating = CaissonSandbox.create({
      timeout: "5m",
      volumes: { "/v": volume },
      signal: controller.signal,
    });
    await beingCreated();
    controller.abort(new Error("no longer wanted"));
    await assert.rejects(creating, /no longer wanted/);
    await plan.reset();
    await assertFree();
  });

  test("ten creates given up after 20 ms, one after the other with the same volume, leave nothing", async () => {
    for (let attempt = 0; attempt < 10; attempt += 1) {
      const creating = CaissonSandbox.create({
        timeout: "5m",
        volumes: { "/v": volume },
        signal: AbortSignal.timeout(20),
      });
      await creating.then(
        (sandbox) => sandbox.kill(),
        () => {},
      );
    }
    await assertFree();
  });

  test("a program with the official client that is killed while it waits leaves nothing", async () => {
    await plan.at(HELD_START, "wait");
    const program = `import { Sandbox } from "@deno/sandbox"; await Sandbox.create({ timeout: "5m", volumes: { "/v": "${volume}" } });`;
    const child = spawn(process.execPath, ["--input-type=module", "-e", program], {
      cwd: import.meta.dirname,
      env: { ...process.env, ...server.clientEnv() },
      stdio: "ignore",
    });
    await beingCreated();
    child.kill("SIGKILL");
    await once(child, "exit");
    await plan.reset();
    await assertFree();
    const ended = (await list())[1];
    assert.ok(ended !== undefined);
    assert.equal((await client.rest<Detailed>("GET", `/api/v3/sandbox/${ended.id}`)).stopReason, "cancelled");
  });

  for (const [how, leave] of [
    ["closes its connection", (socket: Socket) => socket.destroy()],
    ["resets its connection", (socket: Socket) => socket.resetAndDestroy()],
    ["closes its half of the connection", (socket: Socket) => socket.end()],
  ] as const) {
    test(`a client that ${how} while it waits has no sandbox`, async () => {
      await plan.at(HELD_START, "wait");
      const socket = await rawCreate();
      socket.on("error", () => {});
      await beingCreated();
      leave(socket);
      await plan.reset();
      await assertFree();
      socket.destroy();
    });
  }

  test("a client that leaves with the 101 unread has no sandbox", async () => {
    // What comes stays with the system, which then answers the close with a reset.
    const socket = await rawCreate({}, { isReading: false });
    socket.on("error", () => {});
    await eventually("the 101 in the client's system", async () => {
      const [running] = await live();
      return running === undefined ? null : hasLogged(running.id, "client connected") || null;
    });
    socket.destroy();
    await eventually("the end of the sandbox", async () => ((await live()).length === 0 ? true : null));
    await assertFree();
  });
  /** The server says in its log when it has written the 101, and when the creator's connection is gone. */
  const hasLogged = (id: string, message: string): boolean =>
    server
      .logText()
      .split("\n")
      .some((line) => line.includes(`"sandboxId":"${id}"`) && line.includes(`"msg":"${message}"`));

  test("a client that has read its 101 and ends without a word keeps its sandbox for the time that it asked for", async () => {
    const socket = await rawCreate();
    await once(socket, "data");
    const { id } = await newest();
    socket.destroy();
    await eventually("the server's notice of it", () => hasLogged(id, "creator disconnected") || null);
    assert.equal((await client.rest<Detailed>("GET", `/api/v3/sandbox/${id}`)).status, "running");
    await killSandbox(server, id);
    await assertFree();
  });

  test("an upgrade that the agent refuses is an error, and its sandbox is gone", async () => {
    const socket = await rawCreate({ "Sec-WebSocket-Version": "12" });
    const [answer] = (await once(socket, "data")) as [Buffer];
    assert.match(String(answer), /^HTTP\/1\.1 502 SANDBOX_START_FAILED\r\n/);
    assert.deepEqual(await live(), []);
    await assertFree();
    socket.destroy();
  });

  test("a kill reaches a sandbox that is still being created", async () => {
    await plan.at(HELD_START, "wait");
    const creating = Sandbox.create({ timeout: "5m", volumes: { "/v": volume } });
    const { id } = await beingCreated();
    const rejected = assert.rejects(creating, { status: 502, code: "SANDBOX_START_FAILED" });
    const killing = killSandbox(server, id);
    // A server that has answered these has heard of the kill, which was sent before them.
    for (let count = 0; count < 3; count += 1) await live();
    await plan.reset();
    await killing;
    await rejected;
    assert.equal((await client.rest<Detailed>("GET", `/api/v3/sandbox/${id}`)).stopReason, "killed");
    await assertFree();
  });
});
