import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { closeSync, constants, createWriteStream, openSync } from "node:fs";
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { after, before, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { finish, runCaisson, startCaisson } from "./support/run-caisson.ts";
import { TestServer } from "./support/test-server.ts";

let server: TestServer;
before(async () => {
  server = await TestServer.start();
  await server.succeed("volumes", "create", "source", "--capacity", "300MB", "--region", "ord");
  // More than pipes and sockets keep.
  const fill = "sudo head -c 60M /dev/urandom > /v/noise; sha256sum < /v/noise";
  sum = await server.succeed("create", "--volume", "source:/v", "sh", "-c", fill);
  await server.succeed("snapshots", "create", "source", "noise", "--label", "team=a");
});
after(() => server[Symbol.asyncDispose]());

let sum = "";
const inDirectory = (name: string): string => join(server.directory, name);
const sumOf = async (slug: string): Promise<string> => {
  await server.succeed("volumes", "create", `${slug}-v`, "--capacity", "300MB", "--region", "ord", "--from", slug);
  return server.succeed("create", "--volume", `${slug}-v:/v`, "sh", "-c", "sha256sum < /v/noise");
};

test("a snapshot goes to a file and comes back; what the commands print is for scripts", async () => {
  const file = inDirectory("noise.snapshot");
  await writeFile(file, "what was there before");
  const exported = await server.run(["snapshots", "export", "noise", file]);
  assert.match(exported.stdout, /^Exported snapshot noise to \S+ \(6\d\S* MiB in .*\)\n$/, JSON.stringify(exported));
  assert.equal(exported.stderr, "");
  assert.ok((await stat(file)).size > 60_000_000);
  const id = await server.succeed("snapshots", "import", file, "--slug", "copy", "--region", "ord");
  assert.match(id, /^snp_ord_[0-9a-hjkmnp-z]{20}$/);
  const copy = JSON.parse(await server.succeed("snapshots", "get", "copy", "--json"));
  assert.deepEqual([copy.id, copy.labels], [id, { team: "a" }]);
  assert.match(await server.succeed("snapshots", "get", "copy"), /^VOLUME +-$/m);
  assert.equal(await sumOf("copy"), sum);
});

test("a snapshot goes through a pipe, without a word on it, and gets labels of its own", async () => {
  const source = startCaisson(["snapshots", "export", "noise", "-"], server.environment);
  const target = startCaisson(["snapshots", "import", "-", "--slug", "piped", "--label", "b=2"], server.environment);
  source.stdout.pipe(target.stdin);
  let complaint = "";
  source.stderr.on("data", (piece) => {
    complaint += String(piece);
  });
  const [{ stdout, stderr, code }] = await Promise.all([finish(target), once(source, "close")]);
  assert.deepEqual([complaint, stderr, code, source.exitCode], ["", "", 0, 0]);
  assert.match(stdout, /^snp_ord_/);
  assert.deepEqual(JSON.parse(await server.succeed("snapshots", "get", "piped", "--json")).labels, { b: "2" });
  assert.equal(await sumOf("piped"), sum);
});

test("a snapshot is read from a named pipe, and the wait for a writer ends by a signal", async () => {
  const pipe = inDirectory("pipe");
  execFileSync("mkfifo", [pipe]);
  const waiting = startCaisson(["snapshots", "import", pipe, "--slug", "late"], server.environment);
  const ended = finish(waiting);
  // By then it waits: whoever opens the pipe for writing without waiting finds a reader.
  while (!isRead(pipe)) await delay(20);
  waiting.kill("SIGTERM");
  assert.deepEqual(await ended, { stdout: "", stderr: "", code: 143 });

  const target = server.run(["snapshots", "import", pipe, "--slug", "through-pipe"]);
  const { stdout } = startCaisson(["snapshots", "export", "noise", "-"], server.environment);
  await pipeline(stdout, createWriteStream(pipe));
  const { stderr, code } = await target;
  assert.deepEqual([stderr, code], ["", 0]);
  assert.equal(await sumOf("through-pipe"), sum);

  const device = await server.run(["snapshots", "import", "/dev/null", "--slug", "device"]);
  assert.equal(device.code, 2);
  assert.match(device.stderr, /^error: Cannot read \/dev\/null: it is neither a file nor a pipe\n/);
});

test("a raw image goes out and in", async () => {
  const file = inDirectory("noise.ext4");
  await server.succeed("snapshots", "export", "noise", file, "--raw");
  assert.equal((await stat(file)).size, 300_000_000);
  await server.succeed("snapshots", "import", file, "--slug", "raw", "--raw", "--bootable");
  assert.equal(JSON.parse(await server.succeed("snapshots", "get", "raw", "--json")).bootable, true);
  assert.equal(await sumOf("raw"), sum);
});

test("what goes wrong has an exit code and leaves nothing", async () => {
  const run = (...words: string[]) => server.run(["snapshots", ...words]);
  const file = inDirectory("noise.snapshot");
  const damaged = await readFile(file);
  damaged[30_000_000] = (damaged[30_000_000] ?? 0) ^ 1;
  const refused = await runCaisson(["snapshots", "import", "--slug", "bad"], server.environment, damaged);
  assert.equal(refused.code, 1, JSON.stringify(refused));
  assert.match(refused.stderr, /is damaged.*Nothing of it was kept/);
  assert.equal((await run("import", file, "--slug", "noise")).code, 5);
  const absent = await run("import", inDirectory("nothing"), "--slug", "bad");
  assert.equal(absent.code, 4);
  assert.equal(
    absent.stderr,
    `error: Cannot use ${inDirectory("nothing")}: it does not exist. Check how it is written\n`,
  );
  const nowhere = await run("export", "noise", inDirectory("no/where"));
  assert.equal(nowhere.code, 4);
  assert.equal(
    nowhere.stderr,
    `error: There is no directory ${inDirectory("no")}\nhint: Make it: mkdir -p '${inDirectory("no")}'\n`,
  );
  assert.equal((await run("import", file)).code, 2);
  assert.equal((await run("import", file, "--slug", "bad", "--bootable")).code, 2);
  assert.equal((await run("get", "bad")).code, 4);
  assert.equal((await run("export", "nothing", inDirectory("nothing"))).code, 4);
  assert.equal((await run("export", "noise", inDirectory("missing/file"))).code, 4);
  for (const place of ["/dev/null", server.directory]) assert.equal((await run("export", "noise", place)).code, 2);
  assert.ok((await stat("/dev/null")).isCharacterDevice());
});

test("an export ends quietly with its reader, and by Ctrl-C, without a file", async () => {
  const piped = startCaisson(["snapshots", "export", "noise"], server.environment);
  let complaint = "";
  piped.stderr.on("data", (piece) => {
    complaint += String(piece);
  });
  await once(piped.stdout, "data");
  piped.stdout.destroy();
  const [code] = await once(piped, "close");
  assert.deepEqual([code, complaint], [141, ""]);

  const interrupted = startCaisson(["snapshots", "import", "--slug", "interrupted"], server.environment);
  const begun = (await readFile(inDirectory("noise.snapshot"))).subarray(0, 5_000_000);
  interrupted.stdin.on("error", () => undefined);
  await new Promise((resolve) => interrupted.stdin.write(begun, resolve));
  interrupted.kill("SIGINT");
  assert.deepEqual(await once(interrupted, "close"), [130, null]);
  assert.equal((await server.run(["snapshots", "get", "interrupted"])).code, 4);
  const names = await readdir(server.directory);
  assert.deepEqual(
    names.filter((name) => name.endsWith(".part")),
    [],
  );
});

test("an export whose server dies fails, and leaves what was there", async (context) => {
  // The server's own directory goes with it.
  const directory = await mkdtemp(join(tmpdir(), "caisson-cli-export-"));
  context.after(() => rm(directory, { recursive: true }));
  const file = join(directory, "kept.snapshot");
  await writeFile(file, "kept");
  const exporting = startCaisson(["snapshots", "export", "noise", "-"], server.environment);
  const closed = once(exporting, "close");
  await once(exporting.stdout, "readable");
  await server.stop();
  exporting.stdout.resume();
  const [code] = await closed;
  assert.equal(code, 6);
  assert.equal((await server.run(["snapshots", "export", "noise", file])).code, 6);
  assert.equal(await readFile(file, "utf8"), "kept");
  assert.deepEqual(await readdir(directory), ["kept.snapshot"]);
});

/** Whether somebody has the named pipe open for reading. */
function isRead(pipe: string): boolean {
  try {
    closeSync(openSync(pipe, constants.O_WRONLY | constants.O_NONBLOCK));
    return true;
  } catch {
    return false;
  }
}
