import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { chmod, mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { before, suite, test } from "node:test";
import { STAND_IN_EDITOR } from "../../testing/stand-in-editor.ts";
import { useAgent } from "../../tests/agent-fixture.ts";
import { eventually } from "../../tests/eventually.ts";
import { RpcClient } from "../../tests/rpc-client.ts";

interface Editor {
  readonly pid: number;
  readonly port: number;
  readonly stdoutStreamId: number;
  readonly stderrStreamId: number;
}

interface Served {
  readonly args: readonly string[];
  readonly token: string | null;
  readonly own: string | null;
  readonly settings: string | null;
  readonly extensions: readonly string[];
}

suite("the editor of a sandbox", () => {
  const fixture = useAgent();
  const start = (params: object = {}): Promise<Editor> =>
    fixture.client.ok("vscode", { path: fixture.directory, extensions: [], ...params }) as Promise<Editor>;
  const look = async ({ port }: Editor): Promise<Served> =>
    (await (await fetch(`http://127.0.0.1:${port}/?folder`)).json()) as Served;
  const end = async ({ pid }: Editor): Promise<unknown> => {
    await fixture.client.ok("processKill", { pid, signal: "SIGKILL", vscode: true });
    return fixture.client.ok("processWait", { pid, vscode: true });
  };

  test("a sandbox without one says where the recipe is, and what there is instead", async () => {
    const error = await fixture.client.failure("vscode", { path: fixture.directory, extensions: [] });
    assert.equal(error.constructorName, "NotSupported");
    assert.match(error.message, /docs\/vscode\.md.*Remote-SSH/s);
  });

  suite("with a program of code-server's command line", () => {
    before(async () => {
      const programs = join(fixture.agent.home, "programs");
      await mkdir(programs);
      await writeFile(join(programs, "code-server"), STAND_IN_EDITOR);
      await chmod(join(programs, "code-server"), 0o755);
      await fixture.client.ok("envSet", { key: "PATH", value: `${programs}:${process.env.PATH}` });
      // Not looked up on the network by every test.
      await mkdir(join(fixture.agent.home, ".local/share/code-server/extensions/denoland.vscode-deno-3.0.0"), {
        recursive: true,
      });
    });

    test("it serves the directory when the call is answered, to this machine only, and takes no password", async () => {
      const env = { OWN: "mine", PORT: "1", DENO_DEPLOY_SANDBOX_TOKEN: "ddo_x" };
      const editor = await start({ env });
      const { args, token, own } = await look(editor);
      assert.deepEqual([token, own], ["ddo_x", "mine"]);
      for (const arg of ["--auth=none", "--host=127.0.0.1", `--port=${editor.port}`, fixture.directory])
        assert.ok(args.includes(arg), arg);
      await end(editor);
    });

    test("its output waits for the client however long it took to start, and its end is told", async () => {
      const { client } = fixture;
      const editor = await start({ env: { STAND_IN: "slow" } });
      assert.deepEqual(client.stream(editor.stdoutStreamId), [], "nothing is sent before processWait");
      const status = client.ok("processWait", { pid: editor.pid, vscode: true });
      const isNone = await client.failure("processKill", { pid: editor.pid });
      assert.equal(isNone.code, "ENOENT", "its pid is an editor's only");
      await client.ok("processKill", { pid: editor.pid, vscode: true });
      assert.deepEqual(await status, { success: false, code: 143, signal: "SIGTERM", oom: null });
      const output = Buffer.concat(await client.chunks(editor.stdoutStreamId));
      assert.equal(String(output), `starting\nserving ${fixture.directory}\n`);
    });

    test("two that are started at once are two, and the end of one is not that of the other", async () => {
      const [one, two] = await Promise.all([start({ env: { OWN: "1" } }), start({ env: { OWN: "2" } })]);
      assert.notEqual(one.port, two.port);
      await end(one);
      assert.equal((await look(two)).own, "2");
      await end(two);
    });

    test("settings and extensions are there before it serves, and the Deno extension comes if it was not", async () => {
      const data = join(fixture.directory, "data");
      const env = { XDG_DATA_HOME: data };
      const editor = await start({ env, extensions: ["a.b", "c.d"], editorSettings: { "editor.fontSize": 7 } });
      const { settings, extensions } = await look(editor);
      assert.deepEqual(JSON.parse(settings ?? ""), { "editor.fontSize": 7 });
      for (const name of ["a.b-1.0.0", "c.d-1.0.0"]) assert.ok(extensions.includes(name), name);
      const deno = join(data, "code-server/extensions/denoland.vscode-deno-1.0.0");
      await eventually("the Deno extension", () => existsSync(deno));
      await end(editor);
    });

    test("what cannot be installed or started is an error that quotes the program, and nothing of it goes on", async () => {
      const { agent, directory } = fixture;
      await using client = await RpcClient.connect(agent.socketPath);
      const env = { XDG_DATA_HOME: join(directory, "data") };
      const extension = await client.failure("vscode", { path: directory, extensions: ["no.such"], env });
      assert.match(
        extension.message,
        /the extension "no\.such": it ended with code 1\. It said:\nExtension 'no\.such' not found/,
      );
      const ended = await client.failure("vscode", {
        path: directory,
        extensions: [],
        env: { ...env, STAND_IN: "end" },
      });
      assert.match(ended.message, /code-server: it ended with code 7\. It said:\nno room for an editor/);
      const running = readdirSync("/proc")
        .filter((name) => /^\d+$/.test(name))
        .map((pid) => commandLine(pid));
      assert.ok(!running.some((line) => line.includes(env.XDG_DATA_HOME)), running.join("\n"));
      assert.ok(
        !client.frames.some(({ method }) => method === "$sandbox.stream.start"),
        "of output that nobody asked for",
      );
    });

    test("what it cannot do is refused, and not ignored", async () => {
      const { client, directory } = fixture;
      const failure = async (params: object) =>
        (await client.failure("vscode", { path: directory, extensions: [], ...params })).constructorName;
      assert.equal(await failure({ preview: "http://localhost:8000" }), "NotSupported");
      assert.equal(await failure({ path: "/" }), "TypeError");
      assert.equal(await failure({ path: join(directory, "none") }), "NotFound");
    });
  });
});

function commandLine(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "latin1");
  } catch {
    // It has ended meanwhile.
    return "";
  }
}
