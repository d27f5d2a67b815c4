import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { request } from "node:https";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { after, before, suite, test } from "node:test";
import { promisify } from "node:util";
import { testTimeoutMs } from "@caisson/linux/testing";
import { closed } from "./support/closed.ts";
import { eventually } from "./support/eventually.ts";
import { freePort } from "./support/free-port.ts";
import { RawSandbox } from "./support/raw-sandbox.ts";
import { TestServer } from "./support/server.ts";

/** A server that speaks TLS itself, without a proxy. */
suite("with tls.cert and tls.key", { timeout: testTimeoutMs(300_000) }, () => {
  let directory: string;
  let ca: string;
  let server: TestServer;

  before(async () => {
    directory = await mkdtemp(join(tmpdir(), "caisson-tls-"));
    const [cert, key] = [join(directory, "cert.pem"), join(directory, "key.pem")];
    const options = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=localhost";
    const names = ["-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", cert];
    await promisify(execFile)("openssl", [...options.split(" "), ...names]);
    ca = await readFile(cert, "utf8");
    const port = await freePort();
    server = await TestServer.start({
      listen: `127.0.0.1:${port}`,
      settings: `public_url = "https://localhost:${port}"\n[tls]\ncert = "${cert}"\nkey = "${key}"\n`,
    });
  });
  after(async () => {
    await server?.[Symbol.asyncDispose]();
    await rm(directory, { recursive: true });
  });

  const get = async (path: string): Promise<Record<string, unknown>> => {
    const outgoing = request(new URL(path, server.endpoint), {
      ca,
      headers: { authorization: `Bearer ${server.token}` },
    });
    outgoing.end();
    const [incoming] = (await once(outgoing, "response")) as [NodeJS.ReadableStream];
    return JSON.parse(await text(incoming));
  };

  test("the server answers over HTTPS, and clients find it there", async () => {
    assert.match(server.endpoint, /^https:/);
    assert.deepEqual(await get("/health"), { status: "ok" });
    assert.doesNotMatch(server.logText(), /in the clear/);
  });

  test("a sandbox is created, stays while its creator does, and ends with it", async () => {
    const sandbox = await RawSandbox.create(server, { memory_mb: 768 }, { ca });
    assert.equal(await sandbox.run("sleep 2.5; echo alive"), "alive");
    sandbox.crash();
    await eventually("its end", async () =>
      (await get(`/api/v3/sandbox/${sandbox.id}`)).stopReason === "primary-left" ? true : null,
    );
  });

  test("a connection that never shakes hands, and one in the clear, end", async () => {
    const port = Number(new URL(server.endpoint).port);
    const [silent, clear] = [connect(port, "127.0.0.1"), connect(port, "127.0.0.1")];
    for (const socket of [silent, clear]) socket.resume().on("error", () => {});
    clear.write("GET /health HTTP/1.1\r\nHost: a\r\n\r\n");
    await Promise.all([silent, clear].map(closed));
  });
});
