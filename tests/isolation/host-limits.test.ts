import assert from "node:assert/strict";
import { after, before, suite, test } from "node:test";
import { type ChildProcess, Sandbox } from "@deno/sandbox";
import { endInTurn } from "../support/end-in-turn.ts";
import { eventually } from "../support/eventually.ts";
import { killSandbox } from "../support/kill-sandbox.ts";
import { RawSandbox } from "../support/raw-sandbox.ts";
import { TestServer } from "../support/server.ts";

/** Takes as much as it gets of what the kernel counts for the whole host or for each user, says how much that was, and keeps it. */
const HOARD = `
import ctypes, errno, os, resource, sys, time
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
libc = ctypes.CDLL(None, use_errno=True)
limit = int(sys.argv[1])

def taken(attempt):
    count = 0
    while count < limit:
        if attempt() < 0: return f"{count} {errno.errorcode[ctypes.get_errno()]}"
        count += 1
    return str(count)

def terminal():
    return libc.posix_openpt(os.O_RDWR)

def message_queue(names=iter(range(10**6))):
    return libc.mq_open(b"/%d-%d" % (os.getpid(), next(names)), os.O_CREAT | os.O_RDWR, 0o600, None)

def timer():
    return libc.timer_create(0, None, ctypes.byref(ctypes.c_void_p()))

def asynchronous_io():
    number = 206 if os.uname().machine == "x86_64" else 0
    return libc.syscall(ctypes.c_long(number), ctypes.c_long(1000), ctypes.byref(ctypes.c_ulong(0)))

attempts = [libc.inotify_init, terminal, message_queue, timer]
print(*(taken(attempt) for attempt in attempts), end=";", sep=";")
# More than the host has by default, and little memory.
limit = min(limit, 100)
print(taken(asynchronous_io), flush=True)
time.sleep(600 if limit == 100 else 0)
`;
const [INOTIFY, TERMINALS, QUEUES, TIMERS, AIO] = [0, 1, 2, 3, 4];
const TERMINALS_MAX = 20;

/** What one sandbox can take of it, another one still has. */
suite("limits of the host", () => {
  let server: TestServer;
  let sandboxes: readonly Sandbox[];
  let hoarded: readonly string[];
  let left: readonly string[];

  before(async () => {
    server = await TestServer.start({ settings: `[sandboxes]\nterminals = ${TERMINALS_MAX}\n` });
    Object.assign(process.env, server.clientEnv());
    sandboxes = [await Sandbox.create(), await Sandbox.create()];
    const [hoarder, other] = await Promise.all(
      sandboxes.map(async (sandbox, index) => {
        await sandbox.fs.writeTextFile("/tmp/hoard.py", HOARD);
        // Other output than a file would be closed to readers only when the program ends.
        const run = (limit: number): Promise<ChildProcess> =>
          sandbox.spawn("sh", { args: ["-c", `python3 /tmp/hoard.py ${limit} >/tmp/taken`] });
        return { sandbox, run, index };
      }),
    );
    assert.ok(hoarder !== undefined && other !== undefined);
    await hoarder.run(200_000);
    const said = async (sandbox: Sandbox): Promise<readonly string[]> =>
      await eventually(
        "what was taken",
        async () => {
          const text = await sandbox.fs.readTextFile("/tmp/taken").catch(() => "");
          return text.endsWith("\n") ? text.trim().split(";") : null;
        },
        60_000,
      );
    hoarded = await said(hoarder.sandbox);
    await other.run(5);
    left = await said(other.sandbox);
  });
  after(() =>
    endInTurn(...(sandboxes ?? []).map((sandbox) => () => killSandbox(server, sandbox.id)), () =>
      server?.[Symbol.asyncDispose](),
    ),
  );

  const counted: Readonly<Record<string, readonly [index: number, error: string]>> = {
    "inotify instances": [INOTIFY, "EMFILE"],
    "message queues": [QUEUES, "EMFILE"],
    timers: [TIMERS, "EAGAIN"],
  };
  for (const [name, [index, error]] of Object.entries(counted)) {
    test(`a sandbox that has taken all the ${name} it can leaves others theirs`, () => {
      assert.match(hoarded[index] ?? "", new RegExp(`^[1-9]\\d* ${error}$`));
      assert.equal(left[index], "5");
    });
  }

  test("a sandbox has the pseudo-terminals of the settings, and others have theirs", () => {
    assert.equal(hoarded[TERMINALS], `${TERMINALS_MAX} ENOSPC`);
    assert.equal(left[TERMINALS], "5");
  });

  test("a sandbox has as much asynchronous I/O as its memory holds, and others have theirs", () => {
    assert.equal(hoarded[AIO], "100");
    assert.equal(left[AIO], "5");
  });

  test("the server starts further sandboxes meanwhile", async () => {
    // The official client would wait for 10 s at most, however slow the machine is.
    await using third = await RawSandbox.create(server, { memory_mb: 768 });
    assert.equal(await third.run("echo started"), "started");
  });
});
