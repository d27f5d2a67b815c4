import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdir, readdir, writeFile } from "node:fs/promises";
import { request } from "node:http";
import { join } from "node:path";
import { afterEach, beforeEach, suite, test } from "node:test";
import { DENO_PATH, TestAgent } from "../testing/test-agent.ts";
import { RpcClient } from "./rpc-client.ts";

suite("an agent that is started before it is known whose it is", () => {
  let agent: TestAgent;
  beforeEach(async () => {
    agent = await TestAgent.start({ env: { CAISSON_AGENT_REHEARSE: "/bin/true", FORMER: "1", TMPDIR: "/former" } });
  });
  afterEach(() => agent[Symbol.asyncDispose]());

  const configure = async (directory: string, variables: readonly string[]): Promise<number> => {
    const outgoing = request({ socketPath: agent.socketPath, method: "POST", path: "/configure" });
    outgoing.end(JSON.stringify({ directory, variables }));
    const [response] = await once(outgoing, "response");
    response.resume();
    return response.statusCode;
  };
  const variables = (...more: readonly string[]): readonly string[] => [
    `CAISSON_AGENT_SOCKET=${agent.socketPath}`,
    `CAISSON_AGENT_DENO=${DENO_PATH}`,
    ...more,
  ];

  test("serves nobody until it has its configuration, which it takes once", async () => {
    assert.equal((await agent.http("GET", "/rpc")).status, 503);
    assert.equal(await configure(agent.home, variables(`HOME=${agent.home}`)), 200);
    assert.equal(await configure(agent.home, variables("HOME=/elsewhere")), 409);
    assert.equal((await agent.http("GET", "/rpc")).status, 426, "it asks for an upgrade");
    assert.deepEqual(
      (await readdir(agent.directory)).filter((name) => name.includes("rehearsal")),
      [],
    );
  });

  test("serves nobody while its configuration is on its way", async () => {
    const body = JSON.stringify({ directory: agent.home, variables: variables(`HOME=${agent.home}`) });
    const headers = { "Content-Length": Buffer.byteLength(body) };
    const outgoing = request({ socketPath: agent.socketPath, method: "POST", path: "/configure", headers });
    outgoing.write(body.slice(0, 10));
    for (let round = 0; round < 20; round += 1) assert.equal((await agent.http("GET", "/rpc")).status, 503);
    outgoing.end(body.slice(10));
    const [response] = await once(outgoing, "response");
    assert.equal(response.statusCode, 200);
    response.resume();
    assert.equal((await agent.http("GET", "/rpc")).status, 426);
  });

  test("is then what it would be had it been started so", async () => {
    const home = join(agent.directory, "new", "home");
    const old = join(agent.directory, "old");
    await mkdir(old);
    await writeFile(join(old, "file"), "");
    const hidden = Buffer.from("OTHER=hidden = value\0").toString("base64");
    const given = [
      `HOME=${home}`,
      "LANG=C",
      "PATH=/usr/bin:/bin",
      `CAISSON_AGENT_ENV_0=${hidden}`,
      "CAISSON_AGENT_OWN=OWN",
      "OWN=1",
    ];
    assert.equal(await configure(home, variables(...given, `CAISSON_AGENT_CLEAR=${old}`)), 200);
    await using client = await RpcClient.connect(agent.socketPath);
    const environment = await client.ok("envToObject", {});
    assert.deepEqual(environment, { HOME: home, LANG: "C", PATH: "/usr/bin:/bin", OTHER: "hidden = value" });
    assert.equal(await client.ok("realPath", { path: "." }), home, "its home directory was made");
    assert.deepEqual(
      (await readdir(old)).filter((name) => !name.startsWith(".caisson-old-")),
      [],
    );
  });

  test("remembers nothing of its rehearsal", async () => {
    assert.equal(await configure(agent.home, variables(`HOME=${agent.home}`)), 200);
    await using client = await RpcClient.connect(agent.socketPath);
    // Some of these numbers were those of its programs.
    for (let pid = agent.process.pid ?? 0; pid < (agent.process.pid ?? 0) + 100; pid += 1)
      await client.failure("processWait", { pid });
  });
});

test("an agent that cannot rehearse ends", async () => {
  await assert.rejects(TestAgent.start({ env: { CAISSON_AGENT_REHEARSE: "/not/there" } }), /The rehearsal failed/);
});
