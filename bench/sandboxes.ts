import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Sandbox } from "@deno/sandbox";
import { TestClient } from "../tests/support/client.ts";
import { TestServer } from "../tests/support/server.ts";
import { openPeers } from "./support/peers.ts";
import { median, printTable, quantile, timed, writeResults } from "./support/report.ts";
import { run } from "./support/run.ts";

/**
 * Creates, first commands, ends, volumes and snapshots through the official client, beside bare `crun run` and `podman run` of the same root in
 * the same run, in turns, so that all meet the same noise. Run it with: npm run bench
 */
const ROUNDS = 20;
const PARALLEL = 20;
const MIB = 2 ** 20;

const directory = await mkdtemp(join(tmpdir(), "caisson-bench-"));
const server = await TestServer.start({ settings: 'log_level = "debug"\n' });
Object.assign(process.env, server.clientEnv());
const client = new TestClient(server);
const samples = new Map<string, number[]>();
const record = async (name: string, work: () => Promise<unknown>) => {
  const durationMs = await timed(work);
  samples.set(name, [...(samples.get(name) ?? []), durationMs]);
};

try {
  await using peers = await openPeers(directory);
  await client.createVolume("bench-data", { capacity: "1GB" });
  const big = await client.createVolume("bench-big", { capacity: "10GB" });
  await client.with({ volumes: { "/v": "bench-big" } }, (sandbox) =>
    run(sandbox, "head -c 5G /dev/zero | tr '\\0' x > /v/five && sync"),
  );
  await client.createVolume("bench-root", { from: "builtin:debian-13", capacity: "10GB" });
  await client.snapshot("bench-root", "bench-small");
  await client.with({ root: "bench-root" }, (sandbox) =>
    run(sandbox, "head -c 5G /dev/zero | tr '\\0' x > /five && sync"),
  );
  await client.snapshot("bench-root", "bench-large");

  for (let round = 0; round < ROUNDS; round += 1) {
    for (const [name, root] of [
      ["built-in image", undefined],
      ["snapshot of 0.6 GB", "bench-small"],
      ["snapshot of 6 GB", "bench-large"],
    ] as const) {
      let sandbox: Sandbox | undefined;
      await record(`create to first command, ${name}`, async () => {
        sandbox = await Sandbox.create(root === undefined ? {} : { root });
        await run(sandbox, "true");
      });
      await record("end (kill answered)", async () => sandbox?.kill());
    }
    let withVolume: Sandbox | undefined;
    await record("create to first command, with a volume", async () => {
      withVolume = await Sandbox.create({ volumes: { "/data": "bench-data" } });
      await run(withVolume, "true");
    });
    await record("end with a volume (kill answered)", async () => withVolume?.kill());
    await record("peer: crun run true", peers.crun);
    await record("peer: podman run --rm -v true", peers.podman);
    await record("volume create, blank 1 GB", () => client.createVolume(`v-${round}`, { capacity: "1GB" }));
    await record("volume create, from snapshot", () =>
      client.createVolume(`s-${round}`, { from: "bench-small", capacity: "10GB" }),
    );
    await record("volume create, from image and grown", () =>
      client.createVolume(`g-${round}`, { from: "builtin:debian-13", capacity: "10GB" }),
    );
    await record("snapshot of 10 GB holding 5 GB, detached", () => client.snapshot(big.id, `d-${round}`));
    for (const path of [`volumes/v-${round}`, `volumes/s-${round}`, `volumes/g-${round}`, `snapshots/d-${round}`])
      await client.rest("DELETE", `/api/v2/${path}`);
  }
  await measureInside();
  await measureParallel();
  const rows = [...samples].map(([name, values]) => [name, median(values), quantile(values, 0.95)] as const);
  printTable(`Sandboxes, volumes, snapshots: ${ROUNDS} rounds`, ["step", "median ms", "p95 ms"], rows);
  const steps = createSteps();
  printTable("Where a create's time goes, in the server (steps of the runtime overlap)", ["step", "median ms"], steps);
  const of = (name: string) => median(samples.get(name) ?? []);
  console.log(
    `\ncreate to first command with a volume / podman run -v: ${(of("create to first command, with a volume") / of("peer: podman run --rm -v true")).toFixed(2)}`,
  );
  await writeResults("sandboxes", {
    rounds: ROUNDS,
    createStepsMs: Object.fromEntries(steps),
    medianMs: Object.fromEntries(rows.map(([name, value]) => [name, value])),
    p95Ms: Object.fromEntries(rows.map(([name, , value]) => [name, value])),
  });
} finally {
  await server[Symbol.asyncDispose]();
  await rm(directory, { recursive: true, force: true });
}

/** The server logs the trace of every create at level debug. */
function createSteps(): [string, number][] {
  const durations = new Map<string, number[]>();
  for (const line of server.logText().split("\n")) {
    if (!line.includes('"sandbox created"')) continue;
    const { totalMs, trace } = JSON.parse(line) as { totalMs: number; trace: { step: string; durationMs: number }[] };
    for (const { step, durationMs } of [...trace, { step: "total", durationMs: totalMs }]) {
      durations.set(step, [...(durations.get(step) ?? []), durationMs]);
    }
  }
  return [...durations].map(([step, values]) => [step, median(values)]);
}

/** What a program in a running sandbox sees: round trips, streams, and how long a snapshot holds up its writes. */
async function measureInside(): Promise<void> {
  const sandbox = await Sandbox.create({ volumes: { "/v": "bench-big" } });
  await sandbox.fs.writeTextFile("/tmp/small", "x".repeat(1000));
  for (let round = 0; round < 100; round += 1) {
    await record("spawn round trip (true)", () => run(sandbox, "true"));
    await record("read of a 1 kB file", () => sandbox.fs.readTextFile("/tmp/small"));
  }
  const streamMs = await timed(async () => {
    const child = await sandbox.spawn("head", {
      args: ["-c", String(1024 * MIB), "/dev/zero"],
      stdout: "piped",
      stderr: "null",
    });
    let bytes = 0;
    for await (const chunk of child.stdout ?? []) bytes += chunk.length;
    if (bytes !== 1024 * MIB) throw new Error(`${bytes} bytes arrived`);
  });
  console.log(`stream of 1 GiB out of a sandbox: ${((1024 * MIB) / 1e6 / (streamMs / 1000)).toFixed(0)} MB/s`);
  const program = `import os, time, sys
f = os.open("/v/stall", os.O_CREAT | os.O_WRONLY); worst = 0.0; last = time.monotonic()
while not os.path.exists("/tmp/done"):
    os.pwrite(f, b"x", 0); now = time.monotonic(); worst = max(worst, now - last); last = now
print(worst * 1000)`;
  const writer = await sandbox.spawn("python3", { args: ["-c", program], stdout: "piped", stderr: "null" });
  for (let round = 0; round < 5; round += 1)
    await record("snapshot of 10 GB holding 5 GB, written to", () => client.snapshot("bench-big", `live-${round}`));
  await sandbox.fs.writeTextFile("/tmp/done", "");
  console.log(
    `longest stall of a writer during 5 live snapshots: ${Number((await writer.output()).stdoutText).toFixed(1)} ms`,
  );
  await sandbox.kill();
}

/** Many at once on few cores: none may fail. */
async function measureParallel(): Promise<void> {
  const sandboxes: Sandbox[] = [];
  await Promise.all(
    Array.from({ length: PARALLEL }, () =>
      record(`${PARALLEL} creates at once, each to its first command`, async () => {
        const sandbox = await Sandbox.create();
        await run(sandbox, "true");
        sandboxes.push(sandbox);
      }),
    ),
  );
  await Promise.all(sandboxes.map((sandbox) => sandbox.kill()));
}
