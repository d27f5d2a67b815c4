import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import { Sandbox } from "@deno/sandbox";
import { eventually } from "../support/eventually.ts";
import { PreviewWorld } from "../support/preview-world.ts";
import { startVite, VITE_PORT, writeMessage } from "../support/vite.ts";
import { Chromium } from "./chromium.ts";
import { createEditorSnapshot } from "./editor-snapshot.ts";

/** Previews in a real browser. Not part of `npm test`, for Chromium is large: `npm run test:browser`. */
suite("previews in Chromium", { timeout: 3_600_000 }, () => {
  let world: PreviewWorld;
  let chromium: Chromium;
  before(async () => {
    world = await PreviewWorld.start();
    chromium = await Chromium.start(join(world.server.dataDirectory, "previews", "authority.pem"));
  });
  after(async () => {
    await chromium[Symbol.asyncDispose]();
    await world[Symbol.asyncDispose]();
  });

  test("a page is trusted and comes over HTTP/2; it sends, hears events and speaks WebSocket", async () => {
    const page = await chromium.page();
    await page.goto(world.url);
    const entry = 'performance.getEntriesByType("navigation")[0].nextHopProtocol';
    assert.equal(await page.evaluate<string>(entry), "h2");
    const sent = 'fetch("/put", { method: "PUT", body: "x".repeat(1e6) }).then((answer) => answer.json())';
    assert.equal((await page.evaluate<{ bytes: number }>(sent)).bytes, 1_000_000);
    const event =
      'new Promise((heard) => { const events = new EventSource("/events"); events.onmessage = ({ data }) => { events.close(); heard(data); }; })';
    assert.equal(await page.evaluate<string>(event), "first");
    const echo =
      'new Promise((heard) => { const socket = new WebSocket("wss://" + location.host); socket.onopen = () => socket.send("typed"); socket.onmessage = async ({ data }) => { socket.close(); heard(typeof data === "string" ? data : await data.text()); }; })';
    assert.equal(await page.evaluate<string>(echo), "typed");
  });

  test("a signed link opens a private preview, and the cookie is for that name alone", async () => {
    const { client, sandbox } = world;
    const [one, two] = [
      await world.expose(sandbox.id, { port: 8000, private: true }),
      await world.expose(sandbox.id, { port: 8000, private: true }),
    ];
    const path = `/api/v3/sandbox/${sandbox.id}/expose/http/${one.domain}/link`;
    const link = await client.rest<{ url: string }>("POST", path, { expires_in_seconds: 600, path: "/inner" });
    const page = await chromium.page();
    await page.goto(link.url);
    assert.equal(page.url(), `${one.url}/inner`);
    assert.match((await page.textContent("body")) ?? "", /"url":"\/inner"/);
    await page.goto(two.url);
    assert.match((await page.textContent("body")) ?? "", /This preview is private/);
    await page.goto(one.url);
    assert.match((await page.textContent("body")) ?? "", /"url":"\/"/);
  });

  test("a page of Vite shows what changes inside without loading anew", async () => {
    const { sandbox } = world;
    await startVite(sandbox);
    const { url } = await world.expose(sandbox.id, { port: VITE_PORT, rewrite_host: true });
    const page = await chromium.page();
    await page.goto(url);
    await page.waitForFunction('document.querySelector("#shown").textContent === "first"');
    await page.evaluate("globalThis.isSamePage = true");
    await writeMessage(sandbox, "second");
    await page.waitForFunction('document.querySelector("#shown").textContent === "second"');
    assert.equal(await page.evaluate<boolean>("globalThis.isSamePage"), true);
  });

  test("a snapshot by the recipe of docs/vscode.md has code-server, and its terminal runs commands in the sandbox", async () => {
    const snapshot = await createEditorSnapshot(world.client);
    const sandbox = await Sandbox.create({ root: snapshot, memory: "4GiB", timeout: "20m" });
    const settings = { "workbench.startupEditor": "none", "workbench.colorTheme": "Default High Contrast" };
    const editor = await sandbox.exposeVscode("/home/app", { editorSettings: settings });
    const page = await chromium.page();
    await page.goto(editor.url);
    await page.waitForSelector(".monaco-workbench .part.statusbar", { timeout: 120_000 });
    assert.match(page.url(), /\/\?folder=\/home\/app$/);
    await page.waitForSelector(".monaco-workbench.hc-black", { timeout: 60_000 });
    await page.keyboard.press("Control+Shift+Backquote");
    await page.waitForSelector(".terminal-wrapper.active .xterm-screen", { timeout: 60_000 });
    const isWritten = async (): Promise<boolean> =>
      (await sandbox.sh`cat typed 2>/dev/null || true`.text()) === "typed\n";
    await eventually("the terminal's command", async () => {
      await page.keyboard.type("echo typed > ~/typed\n");
      return (await isWritten()) ? true : null;
    });
    await editor.kill();
    await sandbox.kill();
  });
});
