import assert from "node:assert/strict";
import { once } from "node:events";
import { text } from "node:stream/consumers";
import { after, before, suite, test } from "node:test";
import { STAND_IN_EDITOR } from "@caisson/agent/testing";
import { testTimeoutMs } from "@caisson/linux/testing";
import { Sandbox as OwnSandbox } from "@caisson/sdk";
import { Sandbox } from "@deno/sandbox";
import WebSocket from "ws";
import { TestClient } from "./support/client.ts";
import { endInTurn } from "./support/end-in-turn.ts";
import { eventually } from "./support/eventually.ts";
import { PreviewClient } from "./support/preview-client.ts";
import { TestServer } from "./support/server.ts";

interface Served {
  readonly args: readonly string[];
  readonly token: string | null;
  readonly settings: string | null;
}

suite("VS Code in a sandbox", { timeout: testTimeoutMs(300_000) }, () => {
  let server: TestServer;
  let preview: PreviewClient;
  let sandbox: Sandbox;
  before(async () => {
    server = await TestServer.start();
    Object.assign(process.env, server.clientEnv());
    preview = await PreviewClient.of(server.dataDirectory);
    sandbox = await Sandbox.create({ timeout: "10m" });
    await sandbox.fs.writeTextFile("/tmp/code-server", STAND_IN_EDITOR);
    await sandbox.sh`sudo install -m 755 /tmp/code-server /usr/local/bin/code-server`;
  });
  after(() =>
    endInTurn(
      () => sandbox?.kill(),
      () => server?.[Symbol.asyncDispose](),
    ),
  );

  /** What the stand-in says that it was started with. */
  async function look(url: string): Promise<Served> {
    const { status, headers } = await preview.get(url);
    assert.equal(status, 302);
    const { body } = await preview.get(new URL(headers.location ?? "", url).href);
    return JSON.parse(body) as Served;
  }

  async function exchange(url: string, origin: string): Promise<string> {
    const socket = new WebSocket(url.replace("https", "wss"), {
      ca: preview.ca,
      origin,
      lookup: (_host, _options, done) => done(null, [{ address: "127.0.0.1", family: 4 }]),
    });
    await once(socket, "open");
    socket.send("typed");
    const [message] = (await once(socket, "message")) as [Buffer];
    socket.close();
    await once(socket, "close");
    return String(message);
  }

  test("the official client starts it, and its address answers pages and WebSockets at once", async () => {
    await sandbox.fs.mkdir("/home/app/project");
    const editor = await sandbox.exposeVscode("/home/app/project", { editorSettings: { "editor.fontSize": 7 } });
    const { args, token, settings } = await look(editor.url);
    assert.equal(args.at(-1), "/home/app/project");
    assert.equal(token, server.token);
    assert.deepEqual(JSON.parse(settings ?? ""), { "editor.fontSize": 7 });
    assert.equal(await exchange(editor.url, editor.url), "typed");
    await assert.rejects(exchange(editor.url, "https://evil.test"), /403/, "of a page elsewhere");
    const output = text(editor.stdout as unknown as ReadableStream<Uint8Array>);
    await editor.kill();
    assert.deepEqual(await editor.status, { success: false, code: 143, signal: "SIGTERM", oom: false });
    assert.equal(await output, "starting\nserving /home/app/project\n");
    assert.equal((await preview.get(editor.url)).status, 502);
  });

  test("two are two, and stay when their client leaves, until the sandbox ends", async () => {
    const client = await Sandbox.connect({ id: sandbox.id });
    const [one, two] = await Promise.all([client.exposeVscode(), client.exposeVscode()]);
    assert.notEqual(one.url, two.url);
    await client.close();
    await Promise.all([look(one.url), look(two.url)]);
    const short = await Sandbox.create({ timeout: "10m" });
    await short.fs.writeTextFile("/tmp/code-server", STAND_IN_EDITOR);
    await short.sh`sudo install -m 755 /tmp/code-server /usr/local/bin/code-server`;
    const { url } = await short.exposeVscode();
    await look(url);
    await short.kill();
    assert.equal((await preview.get(url)).status, 404);
  });

  test("our own client starts it the same way, and a sandbox without an editor is told what to do", async () => {
    await using own = await OwnSandbox.connect(sandbox.id);
    {
      await using editor = await own.exposeVscode("/home/app");
      assert.equal((await look(editor.url)).token, server.token);
    }
    const bare = await OwnSandbox.create();
    await assert.rejects(bare.exposeVscode(), (error: Error) => {
      assert.equal(error.name, "NotSupported");
      assert.match(error.message, /docs\/vscode\.md.*Remote-SSH/s);
      return true;
    });
    await bare.kill();
  });

  test("an editor's name is listed and revoked like every other, and is only for a sandbox that runs", async () => {
    const client = new TestClient(server);
    const editor = await sandbox.exposeVscode();
    const path = `/api/v3/sandbox/${sandbox.id}/expose/http`;
    const listed = await client.rest<{ url: string; domain: string }[]>("GET", path);
    const found = listed.find(({ url }) => url === editor.url);
    assert.ok(found);
    await client.rest("DELETE", `${path}/${found.domain}`);
    await eventually("it is closed", async () => ((await preview.get(editor.url)).status === 404 ? true : null));
    const [code] = await client.refused("POST", "/api/v3/sandbox/sbx_ord_00000000000000000000/expose/vscode", {});
    assert.equal(code, "404 SANDBOX_NOT_FOUND");
    await editor.kill();
  });
});
