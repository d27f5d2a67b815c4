import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { once } from "node:events";
import { access, mkdtemp, readFile, rm } from "node:fs/promises";
import { type IncomingMessage, type RequestOptions, request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { suite, test } from "node:test";
import { connect as connectTls } from "node:tls";
import { promisify } from "node:util";
import { testTimeoutMs } from "@caisson/linux/testing";
import { Sandbox } from "@deno/sandbox";
import { freePort } from "./support/free-port.ts";
import { PreviewClient } from "./support/preview-client.ts";
import { TestServer } from "./support/server.ts";

const ECHO =
  'Deno.serve({ port: 8000 }, async (request) => { if (request.url.endsWith("/slow")) await new Promise((done) => setTimeout(done, 3_000)); return Response.json(Object.fromEntries(request.headers)); })';

suite("where previews are served", { timeout: testTimeoutMs(300_000) }, () => {
  test("behind a proxy that ends TLS the listener speaks HTTP, and believes the proxy alone", async () => {
    const port = await freePort();
    await using server = await TestServer.start({
      settings: `trusted_proxies = ["127.0.0.1"]\n[expose]\nlisten = "127.0.0.1:${port}"\ndomain = "previews.test"\nbehind_tls_proxy = true\n`,
    });
    Object.assign(process.env, server.clientEnv());
    const sandbox = await Sandbox.create();
    await sandbox.deno.run({ code: ECHO });
    const url = await sandbox.exposeHttp({ port: 8000 });
    assert.match(url, /^https:\/\/[0-9a-z]{26}\.previews\.test$/);
    const { host } = new URL(url);
    await listening(sandbox);
    const seen = await get(port, { headers: { host, "x-forwarded-for": "6.6.6.6, 203.0.113.7" } });
    assert.deepEqual(
      [seen["x-forwarded-for"], seen["x-forwarded-proto"], seen["x-forwarded-port"], seen.host],
      ["203.0.113.7", "https", "443", host],
    );
    await assert.rejects(
      access(join(server.dataDirectory, "previews", "trust.pem")),
      "`caisson env` must not export it",
    );
    await sandbox.kill();
  });

  test("with files of a certificate those are shown, for the domain of the settings", async () => {
    const directory = await mkdtemp(join(tmpdir(), "caisson-preview-tls-"));
    const [cert, key] = [join(directory, "cert.pem"), join(directory, "key.pem")];
    const options = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=previews";
    const names = ["-addext", "subjectAltName=DNS:*.previews.test", "-keyout", key, "-out", cert];
    await promisify(execFile)("openssl", [...options.split(" "), ...names]);
    const port = await freePort();
    {
      await using _server = await TestServer.start({
        settings: `[expose]\nlisten = "127.0.0.1:${port}"\ndomain = "previews.test"\ncert = "${cert}"\nkey = "${key}"\n`,
      });
      const ca = await readFile(cert, "utf8");
      const socket = connectTls({ host: "127.0.0.1", port, servername: "a.previews.test", ca, ALPNProtocols: ["h2"] });
      await once(socket, "secureConnect");
      assert.equal(socket.alpnProtocol, "h2");
      socket.destroy();
    }
    await rm(directory, { recursive: true });
  });

  test("one sandbox gets so many connections at a time and so many requests a second, and others are not held up by it", async () => {
    await using server = await TestServer.start({
      settings: "[expose]\nconnections_per_sandbox = 2\nrequests_per_second = 2\n",
    });
    Object.assign(process.env, server.clientEnv());
    const preview = await PreviewClient.of(server.dataDirectory);
    const [busy, other] = await Promise.all([Sandbox.create(), Sandbox.create()]);
    await busy.deno.run({ code: ECHO });
    await other.deno.run({ code: ECHO });
    await Promise.all([listening(busy), listening(other)]);
    const [first, second] = [await busy.exposeHttp({ port: 8000 }), await other.exposeHttp({ port: 8000 })];
    const slow = [preview.get(`${first}/slow`), preview.get(`${first}/slow`), preview.get(`${first}/slow`)];
    const statuses = (await Promise.all(slow)).map(({ status }) => status).sort();
    assert.deepEqual(statuses, [200, 200, 503]);
    const flood = [];
    for (let round = 0; round < 30; round += 1) flood.push((await preview.get(first)).status);
    assert.ok(flood.includes(429), flood.join());
    assert.equal((await preview.get(second)).status, 200);
    await Promise.all([busy.kill(), other.kill()]);
  });
});

async function listening(sandbox: Sandbox): Promise<void> {
  await sandbox.sh`until curl -s -o /dev/null http://127.0.0.1:8000/; do sleep 0.05; done`;
}

async function get(port: number, options: RequestOptions): Promise<Record<string, string>> {
  const outgoing = request(`http://127.0.0.1:${port}/`, options);
  outgoing.end();
  const [response] = (await once(outgoing, "response")) as [IncomingMessage];
  return JSON.parse(await text(response));
}
