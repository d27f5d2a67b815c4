import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { connect, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, suite, test } from "node:test";
import { ExposureLink } from "./exposure-link.ts";
import type { PreviewTarget } from "./preview.ts";

const HEAD = "HTTP/1.1 200 OK\r\n\r\n";

suite("the agent's word on what names are bound to", () => {
  let directory: string;
  let agent: Server;
  let accepted: Promise<[Socket]>;
  let bound: (readonly [string, PreviewTarget])[];
  let link: ExposureLink;

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), "caisson-link-"));
    agent = createServer();
    agent.listen(join(directory, "agent.sock"));
    accepted = once(agent, "connection") as Promise<[Socket]>;
    bound = [];
    link = new ExposureLink(
      () => connect(join(directory, "agent.sock")),
      (domain, target) => {
        bound.push([domain, target]);
        return domain === "own" ? null : "no such name";
      },
    );
  });
  afterEach(async () => {
    link.close();
    agent.close();
    await rm(directory, { recursive: true });
  });

  test("lines bind names and are answered, also those that come with the head", async () => {
    const opening = link.open();
    const [socket] = await accepted;
    socket.write(`${HEAD}${JSON.stringify({ id: 1, domain: "own", port: 80 })}\n{"id":2,"dom`);
    await opening;
    socket.write('ain":"foreign","pid":7}\n');
    let answers = "";
    for await (const chunk of socket.setEncoding("utf8")) {
      answers += chunk as string;
      if (answers.includes('"id":2')) break;
    }
    assert.match(answers, /\{"id":1,"error":null\}\n\{"id":2,"error":"no such name"\}\n$/);
    assert.deepEqual(bound, [
      ["own", { port: 80 }],
      ["foreign", { pid: 7 }],
    ]);
  });

  test("what is none of its lines ends the connection and binds nothing", async () => {
    const lines = [
      "nonsense\n",
      "null\n",
      '{"id":1,"domain":"own"}\n',
      '{"id":1,"domain":"own","port":0}\n',
      "x".repeat(5_000),
    ];
    for (const line of lines) {
      accepted = once(agent, "connection") as Promise<[Socket]>;
      const opening = link.open();
      const [socket] = await accepted;
      socket.resume().write(HEAD);
      await opening;
      socket.write(line);
      await once(socket, "close");
    }
    assert.deepEqual(bound, []);
  });

  test("a sandbox that says more lines than it may waits for the next ones to be read, and none is lost", async () => {
    const opening = link.open();
    const [socket] = await accepted;
    socket.write(HEAD);
    await opening;
    const count = 130;
    const startMs = performance.now();
    for (let id = 1; id <= count; id += 1) socket.write(`${JSON.stringify({ id, domain: "own", port: 80 })}\n`);
    let answers = "";
    for await (const chunk of socket.setEncoding("utf8")) {
      answers += chunk as string;
      if (answers.includes(`"id":${count},`)) break;
    }
    assert.equal(bound.length, count);
    // A hundred at once, and then 20 a second.
    assert.ok(performance.now() - startMs > 1_000, "nothing made it wait");
  });

  test("an agent that refuses, or says too much before it answers, is no agent", async () => {
    for (const answer of ["HTTP/1.1 404 Not Found\r\n\r\n", "x".repeat(5_000)]) {
      accepted = once(agent, "connection") as Promise<[Socket]>;
      const opening = link.open();
      const refused = assert.rejects(opening, { code: "SANDBOX_START_FAILED" });
      const [socket] = await accepted;
      socket.resume().write(answer);
      await refused;
    }
  });
});
