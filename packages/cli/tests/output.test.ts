import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { openSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { after, before, test } from "node:test";
import { CAISSON, type Environment, startCaisson } from "./support/run-caisson.ts";
import { pipeThroughSlowReader } from "./support/slow-reader.ts";

const LISTED = 2_000;

/** A server that only lists: what is tested here is what becomes of long output. */
let server: Server;
let environment: Environment;
before(async () => {
  const items = Array.from({ length: LISTED }, (_, index) => ({
    id: `sbx_ord_${String(index).padStart(20, "0")}`,
    createdAt: "2026-01-30T18:33:40.790Z",
    stoppedAt: "2026-01-30T18:34:40.790Z",
    region: "ord",
    status: "stopped",
    labels: { note: "x".repeat(100) },
  }));
  server = createServer((_request, response) => {
    response.setHeader("content-type", "application/json").end(JSON.stringify(items));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  environment = { HOME: "/nonexistent", CAISSON_ENDPOINT: `http://127.0.0.1:${port}`, CAISSON_TOKEN: "ddo_x" };
});
after(() => {
  server.closeAllConnections();
  server.close();
});

test("a slow reader gets the whole of a list, in every form", async () => {
  const last = `sbx_ord_${String(LISTED - 1).padStart(20, "0")}`;
  const table = await pipeThroughSlowReader(["list"], environment);
  assert.deepEqual([table.lines, table.last.slice(0, last.length), table.code], [LISTED + 1, last, 0]);
  const json = await pipeThroughSlowReader(["list", "--json"], environment);
  assert.deepEqual([json.lines, JSON.parse(json.last).items.length, json.code], [1, LISTED, 0]);
});

test("a reader that goes away ends a command as SIGPIPE ends programs, without a word", async () => {
  const child = startCaisson(["list"], environment);
  child.stdout.destroy();
  let stderr = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    stderr += text;
  });
  const [code] = await once(child, "close");
  assert.deepEqual({ stderr, code }, { stderr: "", code: 141 });
});

test("output that cannot be written is an error", async () => {
  const [file = "", ...args] = CAISSON;
  const child = spawn(file, [...args, "list"], {
    env: environment,
    stdio: ["pipe", openSync("/dev/full", "w"), "pipe"],
  });
  let stderr = "";
  child.stderr?.setEncoding("utf8").on("data", (text: string) => {
    stderr += text;
  });
  const [code] = await once(child, "close");
  assert.equal(code, 1);
  assert.match(stderr, /^error: Cannot write the output: the disk is full/);
});

test("a reader that waits for ever is left by a signal", async () => {
  const child = startCaisson(["list", "--json"], environment);
  // From here on the command waits for its reader, which takes no more.
  await once(child.stdout, "readable");
  child.kill("SIGTERM");
  await once(child, "exit");
  assert.equal(child.signalCode, "SIGTERM");
});
