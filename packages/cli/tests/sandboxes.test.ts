import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { chmod, mkdir, readdir, readFile, readlink, stat, symlink, writeFile } from "node:fs/promises";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { normalize } from "./support/normalize.ts";
import { finish, startCaisson } from "./support/run-caisson.ts";
import { TestServer } from "./support/test-server.ts";

let server: TestServer;
let sandbox: string;
before(async () => {
  server = await TestServer.start();
  sandbox = await server.succeed("create", "--timeout", "20m", "--label", "job=test");
});
after(() => server[Symbol.asyncDispose]());

test("create with a duration runs the command first and then prints the id; the listing shows the sandbox", async () => {
  await server.succeed("volumes", "create", "data", "--capacity", "300MB", "--region", "ord");
  const words = ["--timeout", "5m", "--volume", "data:/data", "--env", "GREETING=hello", "--label", "job=other"];
  const { stdout, code } = await server.run(["create", ...words, "echo $GREETING from; df --output=target /data"]);
  assert.equal(code, 0);
  assert.equal(normalize(stdout), "hello from\nMounted on\n/data\nsbx_ord_xxxxxxxxxxxxxxxxxxxx\n");
  const id = stdout.trimEnd().split("\n").at(-1) ?? "";
  const listed = await server.succeed("list", "--label", "job=other");
  assert.match(
    normalize(listed),
    /^ID {28}CREATED {17}REGION {2}STATUS {3}UPTIME {2}ENDS IN\nsbx_ord_x{20} {2}2000-01-01 00:00:00\.00 {2}ord {5}running {2} *[\d.ms ]+?s {2} *\d+m \d+s$/,
  );
  const held = await server.run(["volumes", "delete", "data"]);
  assert.deepEqual(held, {
    stdout: "",
    stderr:
      `error: Cannot delete volume "data": it is attached to sandbox ${id}. End that sandbox first\n` +
      `hint: End the sandbox that holds it: caisson kill ${id}\n`,
    code: 5,
  });
  assert.equal(await server.succeed("kill", id), `Killed sandbox ${id}`);
  assert.equal(await server.succeed("volumes", "delete", "data", "--quiet"), "");
  const again = await server.run(["kill", id]);
  assert.equal(again.code, 4);
});

test("what is wrong with an option is said before a sandbox is made", async () => {
  const words = ["create", "--timeout", "5m", "--label", "job=not-offered"];
  assert.equal((await server.run([...words, "--expose-http", "70000"])).code, 2);
  assert.equal(await server.succeed("list", "--label", "job=not-offered", "--quiet"), "");
});

test("what --copy names is looked for before a sandbox is made", async () => {
  const pipe = join(server.directory, "copied-pipe");
  execFileSync("mkfifo", [pipe]);
  const absent = join(server.directory, "absent");
  const refused = async (path: string) => {
    const { stdout, stderr, code } = await server.run([
      "create",
      "--copy",
      path,
      "--timeout",
      "1m",
      "--label",
      "job=refused",
    ]);
    return [code, stdout, stderr.split("\n")[0]];
  };
  assert.deepEqual(await refused(absent), [4, "", `error: There is no "${absent}" on this machine`]);
  assert.deepEqual(await refused(pipe), [2, "", `error: Cannot copy ${pipe}: it is neither a file nor a directory`]);
  assert.equal(await server.succeed("list", "--label", "job=refused", "--quiet"), "");
});

test("a port is exposed, listed, opened by a signed link and revoked", async () => {
  const created = await server.run(["create", "--timeout", "5m", "--expose-http", "8000"]);
  assert.equal(created.code, 0);
  assert.match(created.stderr, /^Port 8000 is reached at https:\/\/[0-9a-z]{26}\.caisson\.localhost:\d+\n$/);
  const id = created.stdout.trim();
  const { stdout, stderr } = await server.run(["expose", id, "8001", "--private"]);
  const domain = new URL(stdout.trim()).host;
  assert.match(stderr, /^Private: send the header X-Caisson-Preview-Token: cpt_\S+\n/);
  const listed = await server.succeed("previews", "list", id);
  assert.match(listed, /^DOMAIN +LEADS TO +PRIVATE +CREATED\n/);
  assert.match(listed, new RegExp(`^${domain} +port 8001 +TRUE `, "m"));
  const link = await server.succeed("previews", "link", id, domain, "--expires-in", "90s", "--path", "/inner");
  assert.match(link, new RegExp(`^https://${domain}/\\.caisson/open\\?until=\\d+&to=%2Finner&signature=\\S+$`));
  const wrong = await server.run(["previews", "link", id, domain, "--path", "inner"]);
  assert.deepEqual([wrong.code, wrong.stderr.split("\n")[0]], [2, 'error: Invalid path "inner"']);
  assert.equal(await server.succeed("previews", "revoke", id, `https://${domain}/`), `Revoked ${domain}`);
  assert.equal((await server.run(["previews", "revoke", id, domain])).code, 4);
  assert.equal((await server.run(["expose", id, "0"])).code, 2);
  await server.succeed("kill", id);
});

test("create whose id nobody reads any more leaves no sandbox", async () => {
  const child = startCaisson(["create", "--timeout", "5m", "--label", "job=unread"], server.environment);
  child.stdout.destroy();
  const [code] = await once(child, "close");
  assert.equal(code, 141);
  assert.equal(await server.succeed("list", "--running", "--label", "job=unread", "--quiet"), "");
});

test("create says when the time is more than the server allows, and what was probably meant by a name", async () => {
  const { stdout, stderr, code } = await server.run(["create", "--timeout", "60m", "--label", "job=long"]);
  assert.equal(code, 0);
  assert.match(
    normalize(stderr),
    /^warning: 60m is more than the server allows: the sandbox ends at 2000-01-01 00:00:00\.00 UTC\. [^\n]*\n$/,
  );
  await server.succeed("kill", stdout.trim());
  const allowed = await server.run(["create", "--timeout", "30m", "--memory", "2147483648"]);
  assert.deepEqual([allowed.code, allowed.stderr], [0, ""]);
  await server.succeed("kill", allowed.stdout.trim());
  await server.succeed("volumes", "create", "dataset", "--capacity", "300MB", "--region", "ord");
  await server.succeed("volumes", "snapshot", "dataset", "dataset-v1");
  const mistyped = await server.run(["create", "--volume", "datasset:/data"]);
  assert.deepEqual(
    [mistyped.code, mistyped.stderr],
    [4, 'error: There is no volume "datasset"\nhint: Did you mean dataset?\n'],
  );
  const snapshot = await server.run(["create", "--volume", "dataset-v1:/data"]);
  assert.equal(snapshot.code, 4);
  assert.match(
    snapshot.stderr,
    /^error: "dataset-v1" is a snapshot, and only volumes can be mounted\nhint: Make a volume from it: /,
  );
});

test("an interrupt while the server is still making the sandbox closes the connection and ends create", async () => {
  const silent = createServer().listen(0, "127.0.0.1");
  await once(silent, "listening");
  const endpoint = `http://127.0.0.1:${(silent.address() as AddressInfo).port}`;
  const child = startCaisson(["create", "--endpoint", endpoint], server.environment);
  const finished = finish(child);
  const [socket] = (await once(silent, "connection")) as [Socket];
  const closed = once(socket.resume(), "close");
  child.kill("SIGINT");
  await closed;
  assert.deepEqual(await finished, { stdout: "", stderr: "", code: 130 });
  silent.close();
});

test("create without a duration ends with its command, and with that command's exit code", async () => {
  const { stdout, stderr, code } = await server.run(["create", "echo out; echo err >&2; exit 42"]);
  assert.deepEqual({ stdout, stderr, code }, { stdout: "out\n", stderr: "err\n", code: 42 });
  assert.equal(await server.succeed("list", "--running", "--quiet"), sandbox);
});

test("create without a duration, a command and a terminal prints the id and lives until it is interrupted", async () => {
  const child = startCaisson(["create"], server.environment);
  const [line] = await once(child.stdout.setEncoding("utf8"), "data");
  const id = String(line).trim();
  assert.equal(await server.succeed("exec", id, "echo alive"), "alive");
  child.kill("SIGINT");
  const [code] = await once(child, "close");
  assert.equal(code, 0);
  const gone = await server.run(["exec", id, "true"]);
  assert.deepEqual(gone, {
    stdout: "",
    stderr: `error: There is no running sandbox "${id}"\nhint: List sandboxes; a sandbox that ended cannot be used again.\n`,
    code: 125,
  });
});

test("create names the files that --copy skips, as copy does", async () => {
  const tree = join(server.directory, "skipped");
  await mkdir(tree);
  await writeFile(join(tree, "file"), "x");
  execFileSync("mkfifo", [join(tree, "pipe")]);
  const { stdout, stderr, code } = await server.run(["create", "--copy", tree, "ls /app/skipped"]);
  assert.deepEqual(
    { stdout, stderr, code },
    { stdout: "file\n", stderr: `warning: Skipped "${join(tree, "pipe")}": it is a named pipe\n`, code: 0 },
  );
});

test("a failed preparation leaves no sandbox behind", async () => {
  const directory = join(server.directory, "a", "same-name");
  const file = join(server.directory, "b", "same-name");
  await mkdir(directory, { recursive: true });
  await mkdir(join(file, ".."));
  await writeFile(file, "x");
  const copies = ["--copy", directory, "--copy", file];
  const { code, stderr } = await server.run(["create", "--timeout", "5m", "--label", "job=failed", ...copies]);
  assert.equal(code, 1);
  assert.match(stderr, /same-name/);
  const { items } = JSON.parse(await server.succeed("list", "--label", "job=failed", "--json"));
  assert.deepEqual(
    items.map(({ status }: { status: string }) => status),
    ["stopped"],
  );
});

test("copy follows the rules of cp in every direction", async () => {
  const work = join(server.directory, "copy");
  const tree = join(work, "tree");
  await mkdir(join(tree, "sub"), { recursive: true });
  await writeFile(join(tree, "a.txt"), "first\n");
  await writeFile(join(tree, "sub", "run.sh"), "#!/bin/sh\n");
  await chmod(join(tree, "sub", "run.sh"), 0o755);
  await symlink("a.txt", join(tree, "link"));
  const inSandbox = (path: string) =>
    server.succeed("exec", sandbox, `cd ${path} && find . -printf '%P %y %m\\n' | sort`);

  const copied = await server.succeed("copy", tree, `${sandbox}:/app/`);
  assert.match(copied, /^Copied 2 files \(16 B\) in [\d.]+ m?s$/);
  const listing = " d 755\na.txt f 644\nlink l 777\nsub d 755\nsub/run.sh f 755";
  assert.equal(await inSandbox("/app/tree"), listing);
  await server.succeed("cp", tree, `${sandbox}:/app/renamed`);
  assert.equal(await inSandbox("/app/renamed"), listing);
  assert.equal(await server.succeed("exec", sandbox, "ls -A /app"), "renamed\ntree");

  await server.succeed("copy", `${sandbox}:/app/renamed/*.txt`, `${sandbox}:/app/tree/sub`, `${work}/back/`);
  assert.deepEqual((await readdir(join(work, "back"))).sort(), ["a.txt", "sub"]);
  await server.succeed("copy", `${sandbox}:/app/tree`, join(work, "twin"));
  assert.equal(await readFile(join(work, "twin", "a.txt"), "utf8"), "first\n");
  assert.equal(await readlink(join(work, "twin", "link")), "a.txt");
  assert.equal((await stat(join(work, "twin", "sub", "run.sh"))).mode & 0o777, 0o755);
  assert.deepEqual((await readdir(work)).sort(), ["back", "tree", "twin"]);

  const other = await server.succeed("create", "--timeout", "5m");
  const between = JSON.parse(await server.succeed("copy", `${sandbox}:/app/tree`, `${other}:/tmp/moved`, "--json"));
  assert.deepEqual([between.files, between.bytes], [2, 16]);
  assert.equal(await server.succeed("exec", other, "cd /tmp/moved && find . -printf '%P %y %m\\n' | sort"), listing);
  await server.succeed("kill", other, "--quiet");
  await symlink("tree", join(work, "alias"));
  await server.succeed("copy", join(work, "alias"), `${sandbox}:/srv/`);
  assert.equal(await inSandbox("/srv/alias"), listing);
  await server.succeed("copy", `${sandbox}:/app/tree`, `${sandbox}:/tmp/inside`);
  assert.equal(await inSandbox("/tmp/inside"), listing);
});

test("copies of the same things again replace them, and do not follow links that a sandbox left on this machine", async () => {
  const work = join(server.directory, "again");
  const victim = join(server.directory, "victim");
  await mkdir(work);
  await writeFile(victim, "precious");
  await server.succeed("exec", sandbox, `mkdir /tmp/links && ln -s ${victim} /tmp/links/file`);
  const other = await server.succeed("create", "--timeout", "5m");
  for (const _time of [1, 2]) {
    await server.succeed("copy", `${sandbox}:/tmp/links`, work);
    await server.succeed("copy", join(work, "links"), `${sandbox}:/tmp/`);
    await server.succeed("copy", `${sandbox}:/tmp/links`, `${other}:/tmp/`);
  }
  await server.succeed("kill", other);
  assert.equal(await readlink(join(work, "links", "file")), victim);
  await server.succeed("exec", sandbox, "rm /tmp/links/file && echo new > /tmp/links/file");
  await server.succeed("copy", `${sandbox}:/tmp/links/*`, join(work, "links/"));
  assert.equal(await readFile(join(work, "links", "file"), "utf8"), "new\n");
  assert.equal(await readFile(victim, "utf8"), "precious");
});

test("copy skips special files and says so, and takes names that are not UTF-8", async () => {
  const work = join(server.directory, "odd");
  await mkdir(join(work, "tree"), { recursive: true });
  await writeFile(join(work, "tree", "file"), "x");
  execFileSync("mkfifo", [join(work, "tree", "pipe")]);
  const up = await server.run(["copy", join(work, "tree"), `${sandbox}:/tmp/odd/`, "--json"]);
  assert.equal(up.stderr, `warning: Skipped "${join(work, "tree", "pipe")}": it is a named pipe\n`);
  assert.equal(up.code, 0);
  const { files, skipped } = JSON.parse(up.stdout);
  assert.deepEqual({ files, skipped }, { files: 1, skipped: [{ path: join(work, "tree", "pipe"), reason: "pipe" }] });

  await symlink(join(work, "tree", "pipe"), join(work, "tree", "link-to-pipe"));
  await symlink("nowhere", join(work, "tree", "link-to-nothing"));
  const globs = await server.run(["copy", join(work, "tree", "*"), `${sandbox}:/tmp/globs/`]);
  assert.deepEqual(
    globs.stderr.trim().split("\n"),
    [
      ["link-to-nothing", "it vanished, or is a link that leads nowhere"],
      ["link-to-pipe", "it is a named pipe"],
      ["pipe", "it is a named pipe"],
    ].map(([name, why]) => `warning: Skipped "${work}/tree/${name}": ${why}`),
  );
  assert.deepEqual([globs.code, await server.succeed("exec", sandbox, "ls /tmp/globs")], [0, "file"]);

  await server.succeed(
    "exec",
    sandbox,
    "cd /tmp/odd/tree && mkfifo pipe && touch $(printf 'name-\\377') 'back\\slash'",
  );
  const down = await server.run(["copy", `${sandbox}:/tmp/odd/tree`, join(work, "back/")]);
  assert.equal(down.stderr.trim(), 'warning: Skipped "/tmp/odd/tree/pipe": it is a named pipe');
  assert.equal(down.code, 0);
  const globsDown = await server.run(["copy", `${sandbox}:/tmp/odd/tree/[fp]i*`, join(work, "globs/")]);
  assert.equal(globsDown.stderr.trim(), 'warning: Skipped "/tmp/odd/tree/pipe": it is a named pipe');
  assert.deepEqual([globsDown.code, await readdir(join(work, "globs"))], [0, ["file"]]);
  const names = await readdir(join(work, "back", "tree"), "buffer");
  assert.deepEqual(names.map((name) => name.toString("latin1")).sort(), ["back\\slash", "file", "name-\xff"]);
});

test("copy says when and why its sandbox ended", async () => {
  const id = await server.succeed("create", "--timeout", "5m");
  await server.succeed("exec", id, "head -c 1G /dev/zero > /tmp/endless");
  const copy = startCaisson(["copy", `${id}:/tmp/endless`, join(server.directory, "endless")], server.environment);
  const finished = finish(copy);
  while ((await stat(join(server.directory, "endless")).catch(() => null)) === null) await delay(5);
  await server.succeed("kill", id);
  const { stderr, code } = await finished;
  assert.match(stderr, new RegExp(`^error: Sandbox ${id} ended .*: somebody ended it\nhint: `));
  assert.equal(code, 6);
});

test("copy refuses what makes no sense before anything is changed", async () => {
  const fails = async (...words: readonly string[]) => {
    const { stderr, code } = await server.run(["copy", ...words]);
    return [code, stderr.split("\n")[0]];
  };
  assert.deepEqual(await fails("a", "b"), [2, "error: Neither side is a sandbox"]);
  assert.deepEqual(await fails(`${sandbox}:/nope`, "."), [4, `error: There is no "/nope" in sandbox ${sandbox}`]);
  assert.deepEqual(await fails(`${sandbox}:/etc/*.nope`, "."), [
    4,
    `error: Nothing matches "/etc/*.nope" in sandbox ${sandbox}`,
  ]);
  assert.deepEqual(await fails("/etc/hostname", "/etc/hosts", `${sandbox}:/tmp/none`), [
    2,
    "error: Cannot copy 2 things to /tmp/none: it is not a directory",
  ]);
  assert.deepEqual(await fails(`${sandbox}:/etc`, `${sandbox}:/etc/hostname`), [
    2,
    "error: Cannot copy the directory /etc over the file /etc/hostname",
  ]);
  assert.equal(await server.succeed("exec", sandbox, "ls -d /tmp/none || true"), "");
});
