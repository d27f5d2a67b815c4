import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Sandbox, type Terminal } from "../src/index.ts";
import { AgentGateway } from "./agent-gateway.ts";
import { poll } from "./poll.ts";

let gateway: AgentGateway;
let sandbox: Sandbox;
before(async () => {
  gateway = await AgentGateway.start();
  sandbox = await Sandbox.create(gateway.options);
});
after(async () => {
  await sandbox.close();
  await gateway[Symbol.asyncDispose]();
});

/** Types into a terminal and reads what it shows. */
class Screen {
  readonly #writer: WritableStreamDefaultWriter<Uint8Array>;
  readonly #reader: ReadableStreamDefaultReader<Uint8Array>;
  #shown = "";

  constructor(terminal: Terminal) {
    this.#writer = terminal.input.getWriter();
    this.#reader = terminal.output.getReader();
  }

  async type(text: string): Promise<void> {
    await this.#writer.write(new TextEncoder().encode(text));
  }

  /** Reads on until the pattern is seen, and forgets everything up to it. */
  async until(pattern: RegExp): Promise<string> {
    for (;;) {
      const match = pattern.exec(this.#shown);
      if (match !== null) {
        this.#shown = this.#shown.slice(match.index + match[0].length);
        return match[1] ?? match[0];
      }
      const { done, value } = await this.#reader.read();
      if (done)
        throw new Error(`The terminal ended before ${pattern} was seen; it shows ${JSON.stringify(this.#shown)}`);
      this.#shown += Buffer.from(value).toString();
    }
  }

  /** Waits for the prompt, because a shell that is not reading yet may throw typed text away. */
  async prompt(): Promise<void> {
    await this.until(/[#$>] $/);
  }

  async end(): Promise<void> {
    while (!(await this.#reader.read()).done);
  }
}

test("a program on a terminal sees a terminal of the size that was asked for, and each later size", {
  timeout: 120_000,
}, async () => {
  const terminal = await sandbox.terminal({ columns: 101, rows: 31, command: "exec bash --norc" });
  const screen = new Screen(terminal);
  await screen.prompt();
  await screen.type("test -t 0 && test -t 1 && echo is-a-$TERM; stty size\n");
  await screen.until(/is-a-xterm-256color\r\n/);
  assert.equal(await screen.until(/(\d+ \d+)\r\n/), "31 101");
  await screen.prompt();
  await screen.type("trap 'echo new-$(stty size)' WINCH; echo rea''dy\n");
  await screen.until(/ready\r\n/);
  await screen.prompt();
  await Promise.all([terminal.resize({ columns: 90, rows: 20 }), terminal.resize({ columns: 132, rows: 50 })]);
  await screen.type("stty size\n");
  await screen.until(/50 132\r\n/);
  await screen.type("exit 7\n");
  await screen.end();
  assert.deepEqual(await terminal.status, { success: false, code: 7, signal: null, oom: false });
});

test("Ctrl-C interrupts what is in the foreground, and Ctrl-D ends the shell", { timeout: 120_000 }, async () => {
  const terminal = await sandbox.terminal({ command: "exec bash --norc" });
  const screen = new Screen(terminal);
  await screen.prompt();
  // The program itself says when it is in the foreground; a key that comes before reaches the shell instead.
  await screen.type("sh -c 'echo be\"\"gin; exec sleep 1000'\n");
  await screen.until(/begin\r\n/);
  await screen.type("\x03");
  await screen.until(/\^C/);
  await screen.prompt();
  await screen.type("echo code-$?\n");
  await screen.until(/code-130\r\n/);
  await screen.prompt();
  await screen.type("\x04");
  await screen.end();
  await terminal.status;
});

test("leaving the scope of a terminal ends the program on it, and so does an aborted signal", {
  timeout: 120_000,
}, async () => {
  const command = "trap 'touch hung-up; exit' HUP; echo start; while :; do sleep 0.01; done";
  let ended: Promise<unknown>;
  {
    await using terminal = await sandbox.terminal({ command });
    await new Screen(terminal).until(/start\r\n/);
    ended = terminal.status;
  }
  await ended;
  await poll("the program was told", () =>
    sandbox.fs.stat("hung-up").then(
      () => true,
      () => false,
    ),
  );

  const controller = new AbortController();
  const terminal = await sandbox.terminal({ command, signal: controller.signal });
  controller.abort();
  assert.equal((await terminal.status).success, false);
});

test("sizes that are none are refused, and a root without script says what is missing", async () => {
  await assert.rejects(sandbox.terminal({ columns: 0, rows: 24 }), RangeError);
  await assert.rejects(sandbox.terminal({ columns: 80, rows: 2.5 }), RangeError);
  await sandbox.fs.mkdir("bin", { recursive: true });
  await sandbox.fs.writeTextFile("bin/script", "#!/bin/sh\necho 'no more terminals'\n", { mode: 0o755 });
  await using other = await Sandbox.connect(sandbox.id, gateway.options);
  const path = await other.env.get("PATH");
  await other.env.set("PATH", `${gateway.home}/bin:${path}`);
  await assert.rejects(other.terminal(), /Cannot open a terminal in the sandbox: no more terminals/);
  await other.env.set("PATH", path ?? "");
});
