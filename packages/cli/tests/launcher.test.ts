import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import {
  chmod,
  cp,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  readlink,
  rm,
  symlink,
  utimes,
  writeFile,
} from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const run = promisify(execFile);
const PROJECT = fileURLToPath(new URL("../../../", import.meta.url));
const COPIED = ["caisson", "scripts", "package.json", "package-lock.json"];
const PACKAGES = ["cli", "model", "protocol", "sdk"];
/** What plain `su` leaves, and where a link is made. */
const SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin";

let directory: string;
let project: string;
/** A copy of what the launcher needs, whose sources can be changed. */
before(async () => {
  directory = await mkdtemp(join(tmpdir(), "caisson-launcher-"));
  await chmod(directory, 0o755);
  project = join(directory, "project");
  await mkdir(join(project, "packages"), { recursive: true });
  for (const name of COPIED) await cp(join(PROJECT, name), join(project, name), { recursive: true });
  const filter = (path: string) => !/\/(dist|node_modules)$/.test(path);
  for (const name of PACKAGES)
    await cp(join(PROJECT, "packages", name), join(project, "packages", name), { recursive: true, filter });
  await mkdir(join(project, "node_modules", "@caisson"), { recursive: true });
  for (const name of await readdir(join(PROJECT, "node_modules"))) {
    if (name !== "@caisson") await symlink(join(PROJECT, "node_modules", name), join(project, "node_modules", name));
  }
  for (const name of PACKAGES)
    await symlink(`../../packages/${name}`, join(project, "node_modules", "@caisson", name), "dir");
  await rm(join(project, "node_modules", ".caisson-installed"), { force: true });
  await cp(join(project, "package-lock.json"), join(project, "node_modules", ".caisson-installed"));
});
after(() => rm(directory, { recursive: true, force: true }));

const currentBundle = () => readlink(join(project, "packages/cli/dist/current"));

async function launch(words: readonly string[], path = SYSTEM_PATH, launcher = join(project, "caisson")) {
  const { stdout, stderr } = await run(launcher, words, { cwd: directory, env: { PATH: path, HOME: directory } });
  assert.equal(stderr, "");
  return stdout;
}

/** Gives the command line another version, written at the time that is given. */
async function setVersion(version: string, time: Date): Promise<void> {
  const path = join(project, "packages/cli/package.json");
  const manifest: Record<string, unknown> = JSON.parse(await readFile(path, "utf8"));
  await writeFile(path, JSON.stringify({ ...manifest, version }));
  await utimes(path, time, time);
}

test("the command line is bundled once, and again when a source changed, also by a file with an old time", async () => {
  await setVersion("1.0.0", new Date());
  assert.equal(await launch(["--version"]), "1.0.0\n");
  const first = await currentBundle();
  assert.equal(await launch(["--version"]), "1.0.0\n");
  assert.equal(await currentBundle(), first);
  await setVersion("2.0.0", new Date("2001-01-01"));
  assert.equal(await launch(["--version"]), "2.0.0\n");
  assert.notEqual(await currentBundle(), first);
});

test("somebody who may not write there runs the sources as they are", async () => {
  await launch(["--version"]);
  await setVersion("3.0.0", new Date());
  const before = await currentBundle();
  const closed = [join(project, "packages/cli/dist"), join(project, "packages/cli")];
  for (const path of closed) await chmod(path, 0o555);
  try {
    // Root without its capabilities: somebody whom permissions bind, and who can reach a checkout wherever it lies.
    const words = ["--bounding-set=-all", "--inh-caps=-all", join(project, "caisson"), "--version"];
    const { stdout } = await run("setpriv", words, { cwd: directory, env: { PATH: SYSTEM_PATH, HOME: directory } });
    assert.equal(stdout, "3.0.0\n");
  } finally {
    for (const path of closed) await chmod(path, 0o755);
  }
  assert.equal(await currentBundle(), before);
});

test("hints and help name what works: the path that was typed, or the bare name where a link is on the PATH", async () => {
  assert.match(
    await launch(["list", "--help"]),
    new RegExp(`^Usage: ${project}/caisson list\\|ls [\\s\\S]*\\n {2}${project}/caisson list\\n`),
  );
  const bin = join(directory, "bin");
  await mkdir(bin);
  assert.equal(await launch(["link", "--directory", bin], `${bin}:${SYSTEM_PATH}`), `Made ${bin}/caisson\n`);
  const path = `${bin}:${SYSTEM_PATH}`;
  assert.equal(await launch(["link", "--directory", bin], path, "caisson"), `${bin}/caisson is there already\n`);
  assert.match(
    await launch(["list", "--help"], path, join(bin, "caisson")),
    /^Usage: caisson list\|ls [\s\S]*\n {2}caisson list\n/,
  );
  assert.equal(await launch(["link", "--directory", bin, "--remove"], path), `Removed ${bin}/caisson\n`);
  assert.equal(await launch(["link", "--directory", bin, "--remove"], path), `There is no ${bin}/caisson\n`);
});

test("a link never replaces another program, and none is taken away for it", async () => {
  const bin = join(directory, "taken");
  await mkdir(bin);
  await writeFile(join(bin, "caisson"), "another program");
  for (const words of [["link"], ["link", "--remove"]]) {
    const failed = await run(join(project, "caisson"), [...words, "--directory", bin], {
      env: { PATH: SYSTEM_PATH, HOME: directory },
    }).catch((error: unknown) => error as { readonly code: number; readonly stderr: string });
    assert.ok("code" in failed);
    assert.equal(failed.code, 5);
    assert.match(failed.stderr, /^error: .*\/caisson is something else\n/);
  }
  assert.equal(await readFile(join(bin, "caisson"), "utf8"), "another program");
});

test("programs for administrators are found from a shell without their directories on the PATH", async () => {
  const items: readonly { readonly name: string; readonly remedy: string | null }[] = JSON.parse(
    await run(join(PROJECT, "caisson"), ["doctor", "--json"], { env: { PATH: SYSTEM_PATH, HOME: directory } }).then(
      ({ stdout }) => stdout,
      (error: { readonly stdout: string }) => error.stdout,
    ),
  ).items;
  const missing = items.filter(({ remedy }) => /nft|apt-get install/.test(remedy ?? ""));
  assert.deepEqual(missing, []);
});
