import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import { runTool } from "@caisson/linux";
import { Sandbox } from "@deno/sandbox";
import { ask, assertClosed, curl, exchange, exchangeRaw, read, run } from "./support/egress-probes.ts";
import { EGRESS_WORLD, EgressWorld } from "./support/egress-world.ts";
import { eventually } from "./support/eventually.ts";
import { TestServer } from "./support/server.ts";

const MARK = "CAISSON_TEST_EGRESS";
/** Where nothing may come back. */
const SILENCE = { seconds: 2 };
const { shared, other, foreignResolver, host } = EGRESS_WORLD;

suite("egress", () => {
  // Addresses, routes and the host's resolv.conf are the test's own, so it runs in namespaces of its own, and this outer process only starts it.
  if (process.env[MARK] === undefined) {
    test("in a network of its own", runInside);
    return;
  }
  let directory: string;
  let world: EgressWorld;
  let server: TestServer;

  before(async () => {
    directory = await mkdtemp(join(tmpdir(), "caisson-egress-"));
    await chmod(directory, 0o711);
    world = await EgressWorld.start();
    const servers = [EGRESS_WORLD.silentResolver, EGRESS_WORLD.resolver];
    await writeFile(join(directory, "resolv.conf"), servers.map((address) => `nameserver ${address}\n`).join(""));
    await writeFile(join(directory, "authority.pem"), world.authority);
    await runTool("mount", ["--bind", join(directory, "resolv.conf"), "/etc/resolv.conf"]);
    server = await TestServer.start({
      settings: 'log_level = "trace"\n',
      env: { SSL_CERT_FILE: join(directory, "authority.pem") },
    });
    Object.assign(process.env, server.clientEnv());
  });
  after(async () => {
    await server[Symbol.asyncDispose]();
    await runTool("umount", ["/etc/resolv.conf"]);
    await world[Symbol.asyncDispose]();
    await rm(directory, { recursive: true });
  });

  suite("allow_net with names", () => {
    let sandbox: Sandbox;
    before(async () => {
      sandbox = await Sandbox.create({
        allowNet: [
          "allowed.test",
          "*.sub.test",
          "alias.test:80",
          "second.test:8080",
          "rebinding.test",
          "many.test",
          "[2001:db8::1]",
        ],
      });
    });
    after(() => sandbox.kill());

    test("an allowed name is reached, over HTTP and any other port", async () => {
      assert.equal((await curl(sandbox, "http://allowed.test/")).host, "allowed.test");
      assert.equal((await curl(sandbox, "http://allowed.test:8080/")).host, "allowed.test:8080");
    });

    test("fetch obeys the list", async () => {
      assert.equal((await sandbox.fetch("http://allowed.test/")).status, 200);
      await assert.rejects(sandbox.fetch("http://forbidden.test/"));
    });

    test("a name that is not on the list does not exist, and its question never leaves", async () => {
      await assertClosed(sandbox, "http://forbidden.test/", [6]);
      await assertClosed(sandbox, "http://sub.test/", [6]);
      await assertClosed(sandbox, "http://data-to-steal.forbidden.test/", [6]);
      const asked = await read(sandbox, "curl -sS http://allowed.test/asked");
      assert.match(asked, /A allowed\.test/);
      assert.doesNotMatch(asked, /forbidden\.test|AAAA/);
    });

    test("subdomains are reached and aliases are followed", async () => {
      assert.equal((await curl(sandbox, "http://www.sub.test/")).host, "www.sub.test");
      assert.equal((await curl(sandbox, "http://alias.test/")).host, "alias.test");
    });

    test("a port in the list opens that port only", async () => {
      assert.equal((await curl(sandbox, "http://second.test:8080/")).host, "second.test:8080");
      await assertClosed(sandbox, "http://second.test/");
    });

    test("an address that nobody asked for by name is closed", async () => {
      await assertClosed(sandbox, "http://203.0.113.99/");
      await assertClosed(sandbox, `-H 'Host: allowed.test' http://${foreignResolver}/`);
    });

    test("another host at an open address is refused, in every request of a connection", async () => {
      await read(sandbox, "getent ahostsv4 allowed.test");
      for (const args of [
        `--resolve forbidden.test:80:${shared} http://forbidden.test/`,
        `-H 'Host: forbidden.test' http://allowed.test/`,
        `http://${shared}/`,
        `--http1.1 -H 'Host: forbidden.test' http://allowed.test:8080/`,
      ]) {
        assert.equal(await read(sandbox, `curl -sS -o /dev/null -w '%{http_code}' --max-time 30 ${args}`), "403", args);
      }
      const two = await read(
        sandbox,
        exchangeRaw(
          "GET / HTTP/1.1\\r\\nHost: allowed.test\\r\\n\\r\\nGET / HTTP/1.1\\r\\nHost: forbidden.test\\r\\n\\r\\n",
        ),
      );
      assert.match(two, /200 OK[\s\S]*403 Forbidden/);
      const lines = await read(
        sandbox,
        exchangeRaw("\\r\\n\\r\\nGET / HTTP/1.1\\r\\nHost: forbidden.test\\r\\n\\r\\n"),
      );
      assert.match(lines, /^HTTP\/1\.1 403/);
      const absolute = await read(
        sandbox,
        exchangeRaw("GET http://forbidden.test/ HTTP/1.1\\r\\nHost: allowed.test\\r\\n\\r\\n"),
      );
      assert.match(absolute, /^HTTP\/1\.1 400/);
    });

    test("what some servers take for a request is checked as one, and what nobody understands is refused on ports of the web", async () => {
      for (const port of [80, 8080]) {
        for (const line of [
          "GET /x",
          "SOURCE /x ICE/1.0",
          "OPTIONS /x RTSP/1.0",
          "get\\t/x",
          "GET http://forbidden.test/",
        ]) {
          const answer = await read(sandbox, exchangeRaw(`${line}\\r\\nHost: forbidden.test\\r\\n\\r\\n`, port));
          assert.match(answer, /^(HTTP\/1\.1 40[03]|$)/, line);
          assert.doesNotMatch(answer, /"host":/, line);
        }
      }
      for (const text of ["hello\\n", "\\0\\0\\0\\x08\\x04\\xd2\\x16\\x2f"]) {
        assert.equal(await read(sandbox, exchangeRaw(text)), "", text);
      }
    });

    test("a Host that is no name is nobody's subdomain", async () => {
      await read(sandbox, "getent ahostsv4 www.sub.test");
      for (const name of [
        "forbidden.test:80.sub.test",
        "forbidden.test/.sub.test",
        "forbidden.test,.sub.test",
        "x@www.sub.test",
      ]) {
        const args = `-H 'Host: ${name}' http://www.sub.test/`;
        assert.equal(await read(sandbox, `curl -sS -o /dev/null -w '%{http_code}' --max-time 30 ${args}`), "400", name);
      }
    });

    test("TLS passes untouched to an allowed name, and not to another one at the same address", async () => {
      assert.equal((await curl(sandbox, "-k https://allowed.test/")).host, "allowed.test");
      const { stdout } = await run(sandbox, "curl -skv https://allowed.test/ 2>&1 | grep -c 'Caisson sandbox secrets'");
      assert.notEqual(stdout, "");
      await assertClosed(sandbox, `-k --resolve forbidden.test:443:${shared} https://forbidden.test/`);
      await assertClosed(sandbox, `-k https://${shared}/`);
      await assertClosed(sandbox, `-k --resolve forbidden.test:8443:${shared} https://forbidden.test:8443/`);
    });

    test("protocols that are neither pass, whichever side speaks first", async () => {
      assert.match(await read(sandbox, exchange("SOCK_STREAM", "allowed.test", 25)), /^220 ready/);
      assert.equal(await read(sandbox, exchange("SOCK_STREAM", "allowed.test", 7000, { text: "hello\\n" })), "hello");
    });

    test("no connection becomes one on which hosts are not checked", async () => {
      const request =
        "GET /socket HTTP/1.1\\r\\nHost: allowed.test\\r\\nConnection: upgrade\\r\\nUpgrade: h2c\\r\\n\\r\\n";
      assert.match(await read(sandbox, exchangeRaw(request)), /^HTTP\/1\.1 200/);
      const preface = "PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n";
      assert.match(await read(sandbox, exchangeRaw(preface)), /^HTTP\/1\.1 400/);
      assert.equal(
        await read(sandbox, exchangeRaw("CONNECT forbidden.test:443 HTTP/1.1\\r\\nHost: allowed.test\\r\\n\\r\\n")),
        "",
      );
    });

    test("websockets pass", async () => {
      const reply = await read(
        sandbox,
        exchangeRaw(
          "GET /socket HTTP/1.1\\r\\nHost: allowed.test\\r\\nConnection: upgrade\\r\\nUpgrade: websocket\\r\\n\\r\\nping",
        ),
      );
      assert.match(reply, /^HTTP\/1\.1 101[\s\S]*ping$/);
    });

    test("another name server is not reached, over UDP or TCP: the filter answers in its place", async () => {
      for (const isTcp of [false, true]) {
        for (const target of [foreignResolver, shared]) {
          assert.equal(await read(sandbox, ask(target, "forbidden.test", isTcp)), "3 0");
          assert.equal(await read(sandbox, ask(target, "allowed.test", isTcp)), "0 1");
        }
      }
    });

    test("an answer that is too long for a datagram comes over TCP", async () => {
      assert.equal(await read(sandbox, ask(foreignResolver, "many.test", true)), "0 61");
      const addresses = await read(sandbox, "getent ahostsv4 many.test | grep -c STREAM");
      assert.equal(addresses, "61");
    });

    test("names that lead to the host, to loopback, to private or link-local addresses lead nowhere", async () => {
      await assertClosed(sandbox, "http://rebinding.test/", [6]);
      for (const address of ["169.254.169.254", host, EGRESS_WORLD.private, "10.213.0.1"]) {
        await assertClosed(sandbox, `--resolve rebinding.test:80:${address} http://rebinding.test/`);
      }
    });

    test("the server's own port is closed", async () => {
      await assertClosed(sandbox, `http://${host}:${new URL(server.endpoint).port}/`);
    });

    test("UDP, ICMP and IPv6 are closed, to open addresses too", async () => {
      await read(sandbox, "getent ahostsv4 allowed.test");
      assert.match(await read(sandbox, exchange("SOCK_DGRAM", shared, 7000, SILENCE)), /^closed/);
      const ping = `python3 -c 'import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP); s.settimeout(2)
try:
  s.sendto(b"\\x08\\0\\0\\0\\0\\1\\0\\1", ("${shared}", 0)); print("open", s.recv(100))
except OSError as e: print("closed", e)'`;
      assert.match(await read(sandbox, ping), /^closed/);
      await assertClosed(sandbox, "-g 'http://[2001:db8::1]/'");
    });
  });

  test("an empty list closes everything", async () => {
    await using sandbox = await Sandbox.create({ allowNet: [] });
    await assertClosed(sandbox, "http://allowed.test/", [6]);
    await assertClosed(sandbox, `http://${shared}/`);
    assert.match(await read(sandbox, exchange("SOCK_STREAM", shared, 7000, SILENCE)), /^closed/);
    assert.equal(await read(sandbox, "echo works"), "works");
  });

  test("IPv4 rules open an address, on all ports or on one", async () => {
    await using sandbox = await Sandbox.create({ allowNet: [shared, `${other}:8080`, EGRESS_WORLD.private] });
    assert.equal((await curl(sandbox, `http://${shared}/`)).from, host);
    assert.match(await read(sandbox, exchange("SOCK_STREAM", shared, 25)), /^220 ready/);
    assert.match(await read(sandbox, exchange("SOCK_DGRAM", shared, 7000, SILENCE)), /^closed/);
    await curl(sandbox, `http://${other}:8080/`);
    await assertClosed(sandbox, `http://${other}/`);
    // A private network is the host's business, whatever the list says.
    await assertClosed(sandbox, `http://${EGRESS_WORLD.private}/`);
    await assertClosed(sandbox, "http://allowed.test/", [6]);
  });

  test("two sandboxes with different lists, and one without, each have their own", async () => {
    await using first = await Sandbox.create({ allowNet: ["allowed.test"] });
    await using second = await Sandbox.create({ allowNet: ["second.test"] });
    await using free = await Sandbox.create();
    await Promise.all([
      curl(first, "http://allowed.test/"),
      curl(second, "http://second.test/"),
      curl(free, "http://forbidden.test/"),
    ]);
    await assertClosed(first, "http://second.test/", [6]);
    await assertClosed(second, "http://allowed.test/", [6]);
    await assertClosed(first, `http://${other}/`);
    await assertClosed(second, `http://${shared}/`);
    await curl(free, `http://${other}/`);
    assert.match(await read(free, exchange("SOCK_DGRAM", shared, 7000)), /^hello/);
  });

  test("what a sandbox had open is closed for the next one at its address", async () => {
    await (await Sandbox.create({ allowNet: ["allowed.test", shared] })).kill();
    // Those of the tests before end when their clients leave, some time later.
    await eventually("the end of every sandbox", async () => {
      const all = (await (await server.request("/api/v3/sandboxes")).json()) as readonly { readonly status: string }[];
      return all.every(({ status }) => status === "stopped") ? true : null;
    });
    const names = [
      "restricted",
      "intercepted",
      "allowed_hosts",
      "allowed_services",
      "granted_hosts",
      "granted_services",
    ];
    // An end answers before the host's own things are given back. The address comes last of them, so nobody has it before.
    await eventually("sets without elements of sandboxes that have ended", async () => {
      const rules = JSON.parse(await runTool("nft", ["--json", "list", "ruleset"])) as {
        readonly nftables: readonly { readonly set?: { readonly name: string; readonly elem?: readonly unknown[] } }[];
      };
      const sets = rules.nftables.flatMap(({ set }) => (set !== undefined && names.includes(set.name) ? [set] : []));
      assert.equal(sets.length, names.length);
      return sets.every(({ elem }) => (elem ?? []).length === 0) ? true : null;
    });
  });

  suite("secrets", () => {
    const value = "real-value-which-nobody-inside-may-see/+=";
    let sandbox: Sandbox;
    before(async () => {
      sandbox = await Sandbox.create({
        secrets: {
          API_KEY: { hosts: ["allowed.test", "*.sub.test"], value },
          ROGUE_KEY: { hosts: ["second.test"], value: `${value}-rogue` },
        },
      });
    });
    after(() => sandbox.kill());

    /** What the server out there got, read outside, since an answer that repeats the value would show it inside. */
    const received = async (path: string): Promise<string> => {
      const script = `const world = require("node:http"); world.get({ host: "${shared}", path: "/received" }, (r) => r.pipe(process.stdout))`;
      const { requests } = JSON.parse(await runTool(process.execPath, ["-e", script])) as {
        readonly requests: readonly string[];
      };
      return requests.find((request) => request.includes(path)) ?? "";
    };

    test("the variable holds a placeholder", async () => {
      assert.match(await read(sandbox, "echo $API_KEY"), /^caisson-secret-[a-z0-9]{32}$/);
      assert.notEqual(await read(sandbox, "echo $API_KEY"), await read(sandbox, "echo $ROGUE_KEY"));
      assert.equal(await sandbox.env.get("API_KEY"), await read(sandbox, "echo $API_KEY"));
    });

    test("the value goes out in headers, in the URL and in short bodies, and only there", async () => {
      await read(
        sandbox,
        'curl -sSf -o /dev/null -H "Authorization: Bearer $API_KEY" "https://allowed.test/quiet/header?key=$API_KEY"',
      );
      const header = await received("/quiet/header");
      assert.ok(header.includes(JSON.stringify(`Bearer ${value}`)), header);
      assert.ok(header.includes(`/quiet/header?key=${encodeURIComponent(value)}`), header);
      await read(sandbox, 'curl -sSf -o /dev/null --json "{\\"key\\":\\"$API_KEY\\"}" https://www.sub.test/quiet/json');
      assert.ok((await received("/quiet/json")).includes(JSON.stringify(JSON.stringify({ key: value }))));
      await read(sandbox, 'curl -sSf -o /dev/null -d "key=$API_KEY&other=1" https://allowed.test/quiet/form');
      assert.ok((await received("/quiet/form")).includes(`key=${encodeURIComponent(value)}&other=1`));
    });

    test("curl, Python, Node, Deno, git, apt's library and fetch trust the certificate", async () => {
      const clients: Readonly<Record<string, string>> = {
        python: `python3 -c 'import os, urllib.request as u
u.urlopen(u.Request("https://allowed.test/quiet/python", headers={"x-key": os.environ["API_KEY"]})).read()'`,
        node: `node -e 'fetch("https://allowed.test/quiet/node", { headers: { "x-key": process.env.API_KEY } }).then((r) => r.text())'`,
        deno: `deno eval --quiet 'await (await fetch("https://allowed.test/quiet/deno", { headers: { "x-key": Deno.env.get("API_KEY") } })).text()'`,
        git: `git -c http.extraHeader="x-key: $API_KEY" ls-remote https://allowed.test/quiet/git || true`,
        apt: `/usr/lib/apt/apt-helper -o Acquire::https::User-Agent="$API_KEY" download-file https://allowed.test/quiet/apt /tmp/apt-file`,
      };
      for (const [name, script] of Object.entries(clients)) {
        await read(sandbox, script);
        assert.ok((await received(`/quiet/${name}`)).includes(value), name);
      }
      const key = await read(sandbox, "echo $API_KEY");
      assert.equal(
        (await sandbox.fetch("https://allowed.test/quiet/fetch", { headers: { "x-key": key } })).status,
        200,
      );
      assert.ok((await received("/quiet/fetch")).includes(value));
    });

    test("other hosts, other ports and plain HTTP get the placeholder", async () => {
      const placeholder = await read(sandbox, "echo $API_KEY");
      for (const [path, args] of [
        ["/quiet/other-host", "-k https://forbidden.test/quiet/other-host"],
        ["/quiet/other-port", "-k https://allowed.test:8443/quiet/other-port"],
        ["/quiet/plain", "http://allowed.test/quiet/plain"],
      ] as const) {
        await read(sandbox, `curl -sSf -o /dev/null -H "x-key: $API_KEY" ${args}`);
        const request = await received(path);
        assert.ok(request.includes(placeholder) && !request.includes(value), request);
      }
    });

    test("a host that cannot prove its name gets nothing, whoever leads the sandbox there", async () => {
      const status = "-sS -o /dev/null -w '%{http_code}'";
      assert.equal(await read(sandbox, `curl ${status} -H "x-key: $ROGUE_KEY" https://second.test/quiet/rogue`), "502");
      assert.equal(await received("/quiet/rogue"), "");
      const hosts = `--resolve second.test:443:${shared}`;
      assert.equal(await read(sandbox, `curl ${status} ${hosts} https://second.test/quiet/rogue`), "502");
      const other = await read(
        sandbox,
        `curl ${status} -H 'Host: forbidden.test' -H "x-key: $API_KEY" https://allowed.test/quiet/front`,
      );
      assert.equal(other, "421");
      assert.equal(await received("/quiet/front"), "");
      assert.equal(await read(sandbox, `curl ${status} -X TRACE https://allowed.test/quiet/trace`), "405");
    });

    test("connections that the server takes over reach neither the host nor a private network", async () => {
      let connections = 0;
      const listener = createServer((socket) => {
        connections += 1;
        socket.destroy();
      }).listen(443, host);
      await once(listener, "listening");
      try {
        await assertClosed(sandbox, `-k --resolve allowed.test:443:${host} https://allowed.test/`);
        await assertClosed(sandbox, `-k https://${EGRESS_WORLD.private}/`);
        await assertClosed(sandbox, `-k --resolve allowed.test:443:${EGRESS_WORLD.private} https://allowed.test/`);
        assert.equal(connections, 0);
      } finally {
        listener.close();
      }
    });

    test("large bodies stream in both directions, and websockets pass", async () => {
      const script =
        "head -c 50000000 /dev/zero | curl -sSf -T - -H 'Transfer-Encoding: chunked' https://allowed.test/length";
      assert.equal(await read(sandbox, script), "50000000");
      assert.equal(await read(sandbox, "curl -sSf https://allowed.test/zeros | wc -c"), "50000000");
      const websocket = `python3 -c 'import os, socket, ssl
s = ssl.create_default_context().wrap_socket(socket.create_connection(("allowed.test", 443)), server_hostname="allowed.test")
s.sendall(b"GET /quiet/socket HTTP/1.1\\r\\nHost: allowed.test\\r\\nConnection: upgrade\\r\\nUpgrade: websocket\\r\\nX-Key: " + os.environ["API_KEY"].encode() + b"\\r\\n\\r\\nping")
text = b""
while b"ping" not in text: text += s.recv(1000)
print(text.decode())'`;
      assert.match(await read(sandbox, websocket), /^HTTP\/1\.1 101[\s\S]*ping$/);
      assert.ok((await received("/quiet/socket")).includes(value));
    });

    test("the value is nowhere inside, nor in the server's files, log, arguments or environment", async () => {
      const half = value.slice(0, 20);
      // The search comes after the collecting, and its word is split, so that it does not find itself.
      const inside = `cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline /.caisson/run/agent.log >/tmp/all 2>/dev/null; grep -ac '${half.slice(0, 10)}''${half.slice(10)}' /tmp/all`;
      assert.equal((await run(sandbox, inside)).stdout.trim(), "0");
      assert.ok(!server.logText().includes(half));
      const { stdout } = await runOutside(
        `grep -rlaF -- "$NEEDLE" ${server.dataDirectory}/database ${server.dataDirectory}/run/state ${server.dataDirectory}/credentials.json ${server.dataDirectory}/run/sandboxes/*/config.json; for f in /proc/[0-9]*/cmdline /proc/[0-9]*/environ; do case $f in /proc/$PPID/*|/proc/$$/*|/proc/self/*) ;; *) grep -qaF -- "$NEEDLE" $f 2>/dev/null && echo $f;; esac; done; true`,
        half,
      );
      assert.equal(stdout, "");
    });

    test("with a list of destinations, secrets open nothing that is not on it", async () => {
      await using limited = await Sandbox.create({
        allowNet: ["allowed.test:443"],
        secrets: { KEY: { hosts: ["allowed.test", "second.test"], value } },
      });
      await read(limited, 'curl -sSf -o /dev/null -H "x-key: $KEY" https://allowed.test/quiet/limited');
      assert.ok((await received("/quiet/limited")).includes(value));
      await assertClosed(limited, "https://second.test/", [6]);
    });
  });
});

async function runOutside(script: string, needle: string): Promise<{ readonly stdout: string }> {
  // Through standard input, so that no process has the needle in its arguments or its environment.
  return { stdout: await runTool("bash", ["-c", `IFS= read -r NEEDLE; ${script}`], { input: `${needle}\n` }) };
}

async function runInside(): Promise<void> {
  const env: NodeJS.ProcessEnv = { ...process.env, [MARK]: "1" };
  // The runner's mark would make the inner process speak the runner's binary protocol.
  delete env.NODE_TEST_CONTEXT;
  // What is unmounted outside is to be unmounted here too.
  const args = [
    "--net",
    "--mount",
    "--propagation",
    "slave",
    "--",
    process.execPath,
    "--test-reporter=spec",
    import.meta.filename,
  ];
  const child = spawn("unshare", args, { env, stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8").on("data", (text: string) => {
      output += text;
    });
  }
  const [code] = await once(child, "close");
  if (process.env.CAISSON_TEST_VERBOSE !== undefined) process.stderr.write(output);
  assert.equal(code, 0, output);
}
