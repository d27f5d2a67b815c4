import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import { promisify } from "node:util";
import { testTimeoutMs } from "@caisson/linux/testing";
import WebSocket from "ws";
import { type Echo, hostOf, PreviewWorld } from "./support/preview-world.ts";
import { startVite, VITE_PORT, writeMessage } from "./support/vite.ts";

/** Programs that nobody wrote for previews. */
suite("programs on both sides of a preview", { timeout: testTimeoutMs(600_000) }, () => {
  let world: PreviewWorld;
  let directory: string;
  before(async () => {
    // Vite would take a name below localhost as it is.
    world = await PreviewWorld.start('[expose]\ndomain = "previews.test"\n');
    directory = await mkdtemp(join(tmpdir(), "caisson-programs-"));
  });
  after(async () => {
    await rm(directory, { recursive: true });
    await world[Symbol.asyncDispose]();
  });

  /** Trusts the server's authority as `caisson env` has it, and finds the name without a resolver. */
  function curlArgs(url: string): string[] {
    const { hostname, port } = new URL(url);
    const trust = join(world.server.dataDirectory, "previews", "trust.pem");
    return ["--silent", "--show-error", "--cacert", trust, "--resolve", `${hostname}:${port}:127.0.0.1`];
  }

  async function curl(path: string, ...args: string[]): Promise<string> {
    const url = `${world.url}${path}`;
    const { stdout } = await promisify(execFile)("curl", [...curlArgs(url), ...args, url]);
    return stdout;
  }

  test("curl reads and sends over HTTP/1.1 and HTTP/2", async () => {
    const file = join(directory, "upload");
    const bytes = Buffer.alloc(5_000_000, "caisson");
    await writeFile(file, bytes);
    for (const version of ["1.1", "2"]) {
      const protocol = `--http${version}`;
      assert.equal(
        await curl("/", protocol, "-o", "/dev/null", "-w", "%{http_version} %{http_code}"),
        `${version} 200`,
      );
      const sent = JSON.parse(await curl("/put", protocol, "--upload-file", file)) as Echo;
      assert.deepEqual([sent.method, sent.bytes], ["PUT", bytes.length]);
      assert.equal(sent.hash, createHash("sha256").update(bytes).digest("hex"));
    }
  });

  test("curl prints events as they come", async () => {
    const url = `${world.url}/events`;
    const child = spawn("curl", [...curlArgs(url), "--no-buffer", url], { stdio: ["ignore", "pipe", "inherit"] });
    const [first] = (await once(child.stdout, "data")) as [Buffer];
    assert.equal(String(first), "data: first\n\n");
    child.kill();
    await once(child, "exit");
  });

  test("Vite's development server serves a page, and what changes inside arrives over its WebSocket", async () => {
    const { sandbox, preview } = world;
    await startVite(sandbox);
    const strict = await world.expose(sandbox.id, { port: VITE_PORT });
    assert.equal((await preview.get(strict.url)).status, 403, "Vite takes local names only");
    const { url } = await world.expose(sandbox.id, { port: VITE_PORT, rewrite_host: true });
    assert.match((await preview.get(url)).body, /<script type="module" src="\/main\.js">/);
    for (const path of ["/main.js", "/message.js"])
      assert.equal((await preview.get(`${url}${path}`)).status, 200, path);
    const { body: client } = await preview.get(`${url}/@vite/client`);
    const [, token = ""] = /wsToken = "([^"]+)"/.exec(client) ?? [];
    const socket = new WebSocket(`${url.replace("https", "wss")}/?token=${token}`, "vite-hmr", {
      ca: preview.ca,
      origin: `https://${hostOf(url)}`,
      lookup: (_host, _options, done) => done(null, [{ address: "127.0.0.1", family: 4 }]),
    });
    const messages: { type: string; updates?: { path: string }[] }[] = [];
    const updated = Promise.withResolvers<void>();
    socket.on("message", (data) => {
      const message = JSON.parse(String(data));
      messages.push(message);
      if (message.type === "update") updated.resolve();
    });
    await once(socket, "open");
    assert.equal(socket.protocol, "vite-hmr");
    await writeMessage(sandbox, "second");
    await updated.promise;
    assert.ok(
      messages.some(({ updates }) => updates?.some(({ path }) => path === "/main.js")),
      JSON.stringify(messages),
    );
    assert.match((await preview.get(`${url}/message.js?t=1`)).body, /"second"/);
    socket.close();
    await once(socket, "close");
  });
});
