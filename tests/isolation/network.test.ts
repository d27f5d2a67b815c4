import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:net";
import { after, before, suite, test } from "node:test";
import { isInPrivateNetwork, TestInternet, WORLD } from "@caisson/runtime/testing";
import { Sandbox } from "@deno/sandbox";
import { endInTurn } from "../support/end-in-turn.ts";
import { killSandbox } from "../support/kill-sandbox.ts";
import { TestServer } from "../support/server.ts";
import { type Attempt, carryOut, testAttempts } from "./attempts.ts";

/** `neighbour`, `gateway`, `port` and `own` are variables: addresses of the other sandbox and the host, the server's port, this sandbox. */
const ATTEMPTS: readonly Attempt[] = [
  { name: "a web server of the world answers", run: `connect("${WORLD.web}", 80)`, meets: "connected" },
  { name: "another sandbox does not answer", run: `connect(neighbour, 8000)`, meets: "timeout" },
  { name: "another sandbox does not answer a ping", run: `ping(neighbour)`, meets: "no answer" },
  ...Object.entries({
    "its own public address": `"${WORLD.host}"`,
    "the sandbox's gateway": "gateway",
    "its metadata address": `"${WORLD.metadata}"`,
  }).map(([what, address]) => ({
    name: `the server's port does not answer under ${what}`,
    run: `connect(${address}, int(port))`,
    meets: /^(timeout|EHOSTUNREACH)$/,
  })),
  {
    name: "the host does not answer a ping",
    run: `ping("${WORLD.host}"), ping(gateway)`,
    meets: "('no answer', 'no answer')",
  },
  {
    name: "a metadata service beyond the host does not answer",
    run: `connect("${WORLD.distantMetadata}", 80)`,
    meets: "EHOSTUNREACH",
  },
  {
    name: "a private network beyond the host does not answer",
    run: `connect("${WORLD.privateWeb}", 80)`,
    meets: "EHOSTUNREACH",
  },
  { name: "the host's loopback does not answer", run: `connect("127.0.0.1", int(port))`, meets: "ECONNREFUSED" },
  { name: "IPv6 leads nowhere", run: `connect("2001:db8::1", 80)`, meets: /^(ENETUNREACH|EADDRNOTAVAIL)$/ },
  {
    name: "IPv6 link-local addresses lead nowhere",
    run: `connect("fe80::1%eth0", 80)`,
    meets: /^(ENETUNREACH|EADDRNOTAVAIL|EINVAL)$/,
  },
  {
    name: "another sandbox's address cannot be a source",
    run: `connect("${WORLD.web}", 80, source=neighbour)`,
    meets: "EADDRNOTAVAIL",
  },
  {
    name: "the gateway's address cannot be a source",
    run: `connect("${WORLD.web}", 80, source=gateway)`,
    meets: "EADDRNOTAVAIL",
  },
  {
    name: "an address that is not the sandbox's cannot be bound transparently",
    run: `set_option(socket.SOL_IP, 19, 1)`,
    meets: "EPERM",
  },
  { name: "packets cannot be marked past the rules", run: `set_option(socket.SOL_SOCKET, 36, 1)`, meets: "EPERM" },
  { name: "another address cannot be added", run: `add_address("${WORLD.web}")`, meets: "EPERM" },
  { name: "the interface cannot be taken down", run: `set_link_down()`, meets: "EPERM" },
  {
    name: "firewall rules cannot be changed",
    run: `netfilter_request()`,
    meets: "EPERM",
  },
];

/** What a sandbox of a real server reaches in the world that the test makes around it. */
suite("network isolation", () => {
  if (!isInPrivateNetwork(import.meta.filename)) return;
  let internet: TestInternet;
  let server: TestServer;
  let sandbox: Sandbox;
  let neighbour: Sandbox;
  let variables: Record<string, string>;

  before(async () => {
    internet = await TestInternet.start();
    server = await TestServer.start();
    Object.assign(process.env, server.clientEnv());
    sandbox = await Sandbox.create();
    neighbour = await Sandbox.create();
    const addressOf = async (of: Sandbox) => (await of.sh`hostname -I`.text()).trim();
    await neighbour.spawn("python3", { args: ["-m", "http.server", "8000"], stdout: "null", stderr: "null" });
    await neighbour.sh`curl -sS --retry 20 --retry-connrefused --retry-delay 1 -o /dev/null http://localhost:8000/`;
    variables = {
      own: await addressOf(sandbox),
      neighbour: await addressOf(neighbour),
      gateway: (await sandbox.sh`ip route show default`.text()).split(" ")[2] ?? "",
      port: new URL(server.endpoint).port,
    };
  });
  after(() =>
    endInTurn(
      () => sandbox && killSandbox(server, sandbox.id),
      () => neighbour && killSandbox(server, neighbour.id),
      () => server?.[Symbol.asyncDispose](),
      () => internet?.[Symbol.asyncDispose](),
    ),
  );

  testAttempts(
    ATTEMPTS,
    () => sandbox,
    () => variables,
  );

  test("a server of the host on all addresses does not answer", async () => {
    const open = createServer((socket) => socket.end("the host"));
    open.listen(0, "0.0.0.0");
    await once(open, "listening");
    const address = open.address();
    assert.ok(typeof address === "object" && address !== null);
    try {
      const targets = [`"${WORLD.host}"`, `"${WORLD.metadata}"`, "gateway"];
      const outcomes = await carryOut(
        sandbox,
        targets.map((target) => `connect(${target}, ${address.port})`),
        variables,
      );
      assert.deepEqual(new Set(outcomes), new Set(["timeout"]));
    } finally {
      open.close();
    }
  });

  test("the fetch call obeys the same rules", async () => {
    assert.equal(
      await (await sandbox.fetch(`http://${WORLD.web}/`)).text(),
      WORLD.host,
      "the world sees the host's address",
    );
    for (const url of [`http://${WORLD.distantMetadata}/latest/meta-data`, `http://${WORLD.privateWeb}/`]) {
      await assert.rejects(sandbox.fetch(url), TypeError, url);
    }
  });
});
