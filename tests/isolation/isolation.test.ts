import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { after, before, suite, test } from "node:test";
import { randomCharacters } from "@caisson/model";
import { Client, Sandbox } from "@deno/sandbox";
import { endInTurn } from "../support/end-in-turn.ts";
import { killSandbox } from "../support/kill-sandbox.ts";
import { TestServer } from "../support/server.ts";
import { createWarm } from "../support/warm.ts";
import { agentAttempts, hostAttempts } from "./agent-attempts.ts";
import { carryOut, testAttempts } from "./attempts.ts";
import { deviceAttempts, kernelFileAttempts, mountAttempts } from "./file-system-attempts.ts";
import { namespaceAttempts, privilegeAttempts, processAttempts, systemCallAttempts } from "./kernel-attempts.ts";

/** A process of the host with things that a sandbox might find: an abstract socket, System V shared memory, a name. */
const HOST_PROCESS = `
import ctypes, socket, sys
listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
listener.bind("\\0" + sys.argv[1])
listener.listen()
segment = ctypes.CDLL(None).shmget(0, 4096, 0o600)
print("ready", flush=True)
sys.stdin.read()
ctypes.CDLL(None).shmctl(segment, 0, None)
`;

/** Attempts to get out of a sandbox, each of which must be refused in the way that it names. */
for (const mode of ["warm", "cold"] as const) suite(`isolation, ${mode}`, () => describeIsolation(mode));

function describeIsolation(mode: "warm" | "cold"): void {
  let server: TestServer;
  let sandbox: Sandbox;
  /** Of another sandbox, with a volume. */
  let neighbour: Sandbox;
  let volume: { readonly id: string; readonly device: string };
  let hostProcess: ChildProcess;
  const mark = `caisson-test-${randomCharacters(12)}`;

  before(async () => {
    hostProcess = spawn("python3", ["-c", HOST_PROCESS, mark], { stdio: ["pipe", "pipe", "inherit"] });
    await once(hostProcess.stdout ?? hostProcess, "data");
    const warmCount = mode === "warm" ? 2 : 0;
    server = await TestServer.start({ settings: `log_level = "debug"\n[sandboxes]\nwarm_sandboxes = ${warmCount}\n` });
    const create = mode === "warm" ? createWarm : (_server: TestServer, options: object) => Sandbox.create(options);
    Object.assign(process.env, server.clientEnv());
    const client = new Client();
    const volumes = await Promise.all(
      ["neighbours", "own"].map((slug) => client.volumes.create({ slug, region: "ord", capacity: "300MB" })),
    );
    neighbour = await create(server, { volumes: { "/v": "neighbours" } });
    const device = (await neighbour.sh`grep ' /v ' /proc/self/mounts | cut -d' ' -f1`.text()).trim();
    volume = { id: volumes[0]?.id ?? "", device: device.replace("/dev/", "") };
    sandbox = await create(server, { volumes: { "/v": "own" } });
  });
  after(() =>
    endInTurn(
      () => sandbox && killSandbox(server, sandbox.id),
      () => neighbour && killSandbox(server, neighbour.id),
      () => server?.[Symbol.asyncDispose](),
      async () => {
        hostProcess?.stdin?.end();
        await once(hostProcess, "close");
      },
    ),
  );

  suite("mounts", () => testAttempts(mountAttempts, () => sandbox));
  suite("devices", () => testAttempts(deviceAttempts, () => sandbox));
  suite("files of the kernel", () => testAttempts(kernelFileAttempts, () => sandbox));
  suite("namespaces", () => testAttempts(namespaceAttempts, () => sandbox));
  suite("privileges", () => testAttempts(privilegeAttempts, () => sandbox));
  suite("processes", () => testAttempts(processAttempts, () => sandbox));
  suite("system calls", () => testAttempts(systemCallAttempts, () => sandbox));
  suite("the host", () =>
    testAttempts(
      hostAttempts,
      () => sandbox,
      () => ({
        host_directory: server.dataDirectory,
        host_mark: mark,
        other_volume: volume.id,
        other_device: volume.device,
      }),
    ));
  suite("the agent", () => testAttempts(agentAttempts, () => sandbox));

  suite("calls to the agent", () => {
    const ways: Readonly<Record<string, string>> = {
      "an absolute path": "",
      "..": "../../../../../../..",
      "/proc/self/root": "/proc/self/root/../..",
      "/proc/1/root": "/proc/1/root/..",
      "/proc/self/cwd": "/proc/self/cwd/../../..",
      "/proc/2/fd": "/proc/2/fd/1/..",
    };
    for (const [name, prefix] of Object.entries(ways)) {
      test(`no file of the host is read by ${name}`, async () => {
        const path = `${prefix}${server.dataDirectory}/credentials.json`;
        await assert.rejects(sandbox.fs.readTextFile(path), /os error (2|20)\b/);
      });
    }

    test("a link to a place of the host leads to a place inside, also for writing", async () => {
      await sandbox.fs.mkdir(`/tmp/inside${server.dataDirectory}`, { recursive: true });
      await sandbox.fs.symlink(`${server.dataDirectory}/credentials.json`, "/tmp/credentials");
      await assert.rejects(sandbox.fs.writeTextFile("/tmp/credentials", "{}"), /os error 2\b/);
      assert.match(await readFile(`${server.dataDirectory}/credentials.json`, "utf8"), /token/);
    });

    test("no directory of a process's descriptors serves as a working directory outside", async () => {
      const outcomes: string[] = [];
      for (let descriptor = 0; descriptor < 32; descriptor += 1) {
        const child = await sandbox
          .spawn("ls", { cwd: `/proc/self/fd/${descriptor}`, stdout: "piped", stderr: "null" })
          .catch(() => null);
        if (child !== null) outcomes.push((await child.output()).stdoutText ?? "");
      }
      assert.deepEqual(outcomes, []);
    });
  });

  test("variables of a sandbox are for its programs and do not change what the agent is", async () => {
    const env = {
      LD_PRELOAD: "/tmp/planted.so",
      LD_AUDIT: "/tmp/planted.so",
      LD_LIBRARY_PATH: "/tmp",
      GLIBC_TUNABLES: "glibc.malloc.check=3",
      NODE_OPTIONS: "--require /tmp/planted.js",
      DENO_DIR: "/tmp/deno",
      DENO_V8_FLAGS: "--max-old-space-size=1",
      DENO_SERVE_ADDRESS: "tcp:0.0.0.0:80",
      DENO_COVERAGE_DIR: "/tmp/coverage",
      OTEL_DENO: "true",
      RUST_LOG: "trace",
      CAISSON_AGENT_ENV_0: "bm9uc2Vuc2U=",
      ORDINARY: "of the programs",
    };
    await using other = await Sandbox.create({ env });
    const [agents, programs] = await carryOut(other, [
      `sorted(text.split("=")[0] for text in read("/proc/2/environ", 1 << 20).split("\\0") if text)`,
      `{name: os.environ.get(name) for name in ${JSON.stringify(Object.keys(env))}}`,
    ]);
    assert.deepEqual(JSON.parse((programs ?? "").replaceAll("'", '"')), env);
    const names = JSON.parse((agents ?? "").replaceAll("'", '"')) as string[];
    const shared = ["DENO_TLS_CA_STORE", "HOME", "LANG", "NODE_EXTRA_CA_CERTS", "PATH", "SSL_CERT_FILE"];
    const own = ["DENO_DIR", "DENO_NO_UPDATE_CHECK", "DENO_V8_FLAGS"];
    assert.deepEqual(
      names.filter((name) => !name.startsWith("CAISSON_AGENT_")),
      [...shared, ...own].sort(),
    );
    const [settings] = await carryOut(other, [`read("/proc/2/environ", 1 << 20)`]);
    assert.doesNotMatch(settings ?? "", /bm9uc2Vuc2U=|\/tmp\/deno|max-old-space-size=1\0/);
  });

  test("another socket in the agent's place gets no client", async () => {
    const [outcome] = await carryOut(sandbox, [
      `(lambda fake: (os.rename("/.caisson/run/agent.sock", "/.caisson/run/old.sock"), fake.bind("/.caisson/run/agent.sock")))(socket.socket(socket.AF_UNIX))`,
    ]);
    assert.equal(outcome, "(None, None)");
    await using second = await Sandbox.connect({ id: sandbox.id });
    assert.equal((await second.sh`echo the agent`.text()).trim(), "the agent");
  });

  test("a sandbox that ends its own agent ends alone", async () => {
    // A duration, because a session's creator may be seen to lose its connection before the sandbox is seen to end.
    const other = await Sandbox.create({ timeout: "5m" });
    await other.spawn("kill", { args: ["-KILL", "2"] }).catch(() => {});
    const response = await server.request(`/api/v3/sandbox/${other.id}?wait=stopped`);
    assert.equal(((await response.json()) as { stopReason: string }).stopReason, "exited");
    assert.equal((await sandbox.sh`echo unharmed`.text()).trim(), "unharmed");
  });
}
