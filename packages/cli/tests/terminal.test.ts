import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { normalize } from "./support/normalize.ts";
import { Terminal } from "./support/terminal.ts";
import { TestServer } from "./support/test-server.ts";

const BOLD = "\u001b[1m";
const END = "\u001b[22m";

let server: TestServer;
before(async () => {
  server = await TestServer.start();
});
after(() => server[Symbol.asyncDispose]());

test("a shell is a real terminal: window size, its changes, job control and the exit code", async () => {
  const id = await server.succeed("create", "--timeout", "5m");
  await using terminal = Terminal.start(["shell", id, "--cwd", "/tmp"], 91, server.environment);
  const [hostTerminal] = await terminal.waitFor(/\/dev\/pts\/\d+/);
  // What is typed before the prompt, the shell may throw away.
  await terminal.waitFor(/\/tmp.*[#$] $/);
  terminal.type("test -t 0 && echo size: $(stty size)\r");
  await terminal.waitFor(/size: 24 91[\s\S]*[#$] $/);
  await terminal.resize(hostTerminal, 70, 33);
  terminal.type("until [ \"$(stty size)\" = '33 70' ]; do sleep 0.02; done; echo re''sized\r");
  await terminal.waitFor(/resized[\s\S]*[#$] $/);
  // Ctrl-C is a key: the kernel in the sandbox makes a signal of it for the program in the foreground.
  terminal.type("bash -c 'echo be\"\"gun; exec sleep 600'\r");
  await terminal.waitFor(/begun/);
  terminal.type("\u0003");
  await terminal.waitFor(/[#$] $/);
  terminal.type("echo status: $?\r");
  await terminal.waitFor(/status: 130[\s\S]*[#$] $/);
  terminal.type("exit 7\r");
  assert.equal(await terminal.exitCode(), 7);
  assert.equal(await server.succeed("exec", id, "echo alive"), "alive");
});

test("create on a terminal opens a shell, and the sandbox ends with it", async () => {
  await using terminal = Terminal.start(["create"], 80, server.environment);
  const [, id = ""] = await terminal.waitFor(/Sandbox (sbx_ord_[0-9a-z]{20}); it ends with this shell/);
  terminal.type("exit 3\r");
  assert.equal(await terminal.exitCode(), 3);
  assert.equal((await server.run(["exec", id, "true"])).code, 125);
});

test("a shell that is asked to end takes its program in the sandbox with it and restores the terminal", async () => {
  const id = await server.succeed("create", "--timeout", "5m");
  await using terminal = Terminal.start(["shell", id], 80, server.environment, "; echo; stty -a | grep -o ' echo '");
  await terminal.waitFor(/[#$] /);
  terminal.type("echo pid $PPID; sleep 987\r");
  await terminal.waitFor(/pid \d+/);
  await terminal.signalCommand("SIGTERM");
  await terminal.waitFor(/ echo /);
  // The kernel tells the programs on a terminal that it is gone, and they end by themselves.
  await server.succeed("exec", id, `timeout 20 bash -c 'while pgrep -f "sleep 98[7]"; do sleep 0.02; done' >/dev/null`);
});

test("exec -t gives the program a terminal, with its words as they stand, and takes its exit code", async () => {
  const id = await server.succeed("create", "--timeout", "5m");
  const line = 'test -t 0 && echo "on $(stty size)"; exit 9';
  await using words = Terminal.start(["exec", "-it", id, "bash", "-c", line], 66, server.environment);
  await words.waitFor(/on 24 66/);
  assert.equal(await words.exitCode(), 9);
  await using shellLine = Terminal.start(["exec", "--tty", id, line], 67, server.environment);
  await shellLine.waitFor(/on 24 67/);
  assert.equal(await shellLine.exitCode(), 9);
});

test("a shell whose sandbox ends says when and why, and leaves the terminal as it was", async () => {
  const id = await server.succeed("create", "--timeout", "5m");
  await using terminal = Terminal.start(["shell", id], 120, server.environment, "; echo; stty -a | grep -o ' echo '");
  await terminal.waitFor(/[#$] /);
  await server.succeed("kill", id);
  await terminal.waitFor(new RegExp(`error:.* Sandbox ${id} ended (just now|at .* UTC): somebody ended it`));
  await terminal.waitFor(/ echo /);
});

test("shell refuses where there is no terminal, and says what to use instead", async () => {
  assert.deepEqual(await server.run(["shell", `sbx_ord_${"0".repeat(20)}`]), {
    stdout: "",
    stderr:
      "error: Cannot open a terminal here: input or output is not one\n" +
      "hint: Without a terminal: caisson exec SANDBOX-ID COMMAND\n",
    code: 2,
  });
});

test("a table that does not fit the terminal leaves out what is optional, and says so", async () => {
  await server.succeed("volumes", "create", "wide", "--capacity", "1GB", "--region", "ord");
  const show = async (columns: number, environment: Record<string, string> = {}) => {
    await using terminal = Terminal.start(["volumes", "list"], columns, { ...server.environment, ...environment });
    await terminal.exitCode();
    return normalize(terminal.text.slice(terminal.text.indexOf("\n") + 1));
  };
  const narrow = await show(64, { NO_COLOR: "1" });
  assert.match(
    narrow,
    /^ID {28}SLUG {2}REGION +USED +TOTAL\nvol_ord_x{20} {2}wide {2}ord .*953\.67 MiB\nLeft out, because the terminal is narrow: BASE\./,
  );
  const wide = await show(120, { NO_COLOR: "1" });
  assert.match(wide, /^ID .* TOTAL {2}BASE\nvol_ord_x{20} .* {2}-\n$/);
  const coloured = await show(120);
  assert.ok(coloured.startsWith(`${BOLD}ID`), JSON.stringify(coloured.slice(0, 20)));
  assert.equal(coloured.replaceAll(BOLD, "").replaceAll(END, ""), wide);
});
