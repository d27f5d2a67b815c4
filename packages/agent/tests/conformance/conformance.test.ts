import { execFile } from "node:child_process";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { promisify } from "node:util";
import { DENO_PATH, TestAgent } from "../../testing/test-agent.ts";
import { TestGateway } from "../test-gateway.ts";
import { scenarios } from "./scenarios.ts";

const TIMEOUT_MS = 60_000;
const script = join(import.meta.dirname, "run-scenario.ts");

/** The official client runs in a program of its own, as it would at a user's, so that one that crashes or hangs fails only its scenario. */
const programs: Readonly<Record<string, readonly string[]>> = {
  Node: [process.execPath],
  Deno: [DENO_PATH, "run", "--allow-all", "--no-lock", "--cached-only"],
};

const page = createServer((request, response) => {
  if (request.url === "/") response.writeHead(200, { "Content-Type": "text/html" }).end("Hello");
});

before(() => new Promise<void>((resolve) => page.listen(0, "127.0.0.1", resolve)));

after(() => {
  page.closeAllConnections();
  page.close();
});

for (const [runtime, [program = "", ...args]] of Object.entries(programs)) {
  for (const name of Object.keys(scenarios)) {
    test(`the official client under ${runtime}, checklist ${name}`, async () => {
      await using agent = await TestAgent.start();
      await using gateway = await TestGateway.start(agent.socketPath);
      const pageUrl = `http://127.0.0.1:${(page.address() as AddressInfo).port}`;
      const parameters = [...args, script, name, gateway.endpoint, pageUrl];
      await promisify(execFile)(program, parameters, { timeout: TIMEOUT_MS, cwd: import.meta.dirname });
    });
  }
}
