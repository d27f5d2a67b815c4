import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdir, readFile, rename, stat, statfs, symlink, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import { Sandbox } from "@deno/sandbox";
import ssh2, { type ClientChannel } from "ssh2";
import { eventually, within } from "./support/eventually.ts";
import { freePort } from "./support/free-port.ts";
import { serve } from "./support/preview-world.ts";
import { ended, finished } from "./support/ssh-client.ts";
import { SshWorld } from "./support/ssh-world.ts";

const { Client } = ssh2;
const sha256 = (bytes: Buffer): string => createHash("sha256").update(bytes).digest("hex");

suite("SSH", () => {
  let world: SshWorld;
  let { ssh, sandbox, username }: Pick<SshWorld, "ssh" | "sandbox" | "username"> = {} as SshWorld;
  before(async () => {
    world = await SshWorld.start();
    ({ ssh, sandbox, username } = world);
  });
  after(() => world[Symbol.asyncDispose]());

  test("the official client gets a user name that logs in, a new one each time", async () => {
    assert.match(username, /^[0-9a-z]{26}$/);
    const created = await Sandbox.create({ ssh: true });
    assert.equal(created.ssh?.hostname, ssh.endpoint.hostname);
    const { stdout, code } = await ssh.ssh(created.ssh?.username ?? "", ["hostname"]);
    assert.equal(code, 0);
    assert.equal(stdout.toString().trim(), created.id.replaceAll("_", "-"));
    assert.notEqual((await sandbox.exposeSsh()).username, username);
    await created.kill();
    assert.equal((await ssh.ssh(created.ssh?.username ?? "", ["true"])).code, 255, "it ends with its sandbox");
  });

  test("exit codes, both outputs and signals come back as they are", async () => {
    const { stdout, stderr, code } = await ssh.ssh(username, ["echo out; echo err >&2; exit 42"]);
    assert.deepEqual([stdout.toString(), stderr, code], ["out\n", "err\n", 42]);
    assert.equal((await ssh.ssh(username, ["kill -TERM $$"])).code, 255, "OpenSSH says so of a signal");
    for (const name of ["SYS", "BUS", "STKFLT", "RTMIN", "RTMAX"])
      assert.equal((await ssh.ssh(username, [`kill -${name} $$`])).code, 255, `${name}, which SSH has no name for`);
    assert.equal((await ssh.ssh(username, ["/nonexistent"])).code, 127);
    assert.equal((await ssh.ssh(username, [], { input: "echo $0; exit 3\n", more: ["-T"] })).code, 3, "a login shell");
  });

  test("it is the sandbox's user, home and environment, with what the client sets", async () => {
    await sandbox.env.set("FROM_RPC", "seen");
    const { stdout } = await ssh.ssh(username, ["pwd; whoami; echo $FROM_RPC $FROM_CLIENT; echo $SSH_CONNECTION"], {
      more: ["-o", "SetEnv=FROM_CLIENT=too"],
    });
    const [home, user, variables, connection] = stdout.toString().split("\n");
    assert.deepEqual([home, user, variables], ["/home/app", "root", "seen too"]);
    assert.match(connection ?? "", new RegExp(`^127\\.0\\.0\\.1 \\d+ 127\\.0\\.0\\.1 ${ssh.endpoint.port}$`));
  });

  test("signals reach a program, also after its input has ended, and its end by one is told", async () => {
    const client = new Client();
    client.connect({ host: ssh.endpoint.hostname, port: ssh.endpoint.port, username, hostVerifier: () => true });
    await once(client, "ready");
    const channel = await new Promise<ClientChannel>((resolve, reject) =>
      // The whole group gets a signal: what runs beside the shell ignores this one from its start.
      client.exec("trap '' USR1; sleep 600 & trap 'echo usr1' USR1; cat; echo eof; wait; wait", (error, opened) =>
        error ? reject(error) : resolve(opened),
      ),
    );
    const exit = once(channel, "exit");
    let text = "";
    channel.on("data", (bytes: Buffer) => {
      text += String(bytes);
    });
    const until = (part: string) => eventually(part, () => (text.includes(part) ? true : null));
    // The library's own method sends none when the input has ended.
    const { _protocol: protocol } = client as unknown as { _protocol: { signal(id: number, name: string): void } };
    const { id } = channel.outgoing as { readonly id: number };
    channel.end("in\n");
    await until("eof\n");
    protocol.signal(id, "USR1");
    await until("usr1\n");
    protocol.signal(id, "TERM");
    assert.deepEqual((await exit).slice(0, 2), [null, "SIGTERM"]);
    client.end();
  });

  test("50 MB go in and come out whole, and the end of input is seen", async () => {
    const data = randomBytes(50_000_000);
    const sent = await ssh.ssh(username, ["sha256sum"], { input: data });
    assert.equal(sent.stdout.toString().split(" ")[0], sha256(data));
    const back = await ssh.ssh(username, ["cat"], { input: data });
    assert.equal(back.stdout.length, data.length);
    assert.equal(sha256(back.stdout), sha256(data));
  });

  test("output and error output together are whole, also to a client that reads slowly", async () => {
    const child = ssh.start(username, [
      "(head -c 20000000 /dev/zero | tr '\\0' a) & (head -c 20000000 /dev/zero | tr '\\0' b) >&2 & wait",
    ]);
    child.stdin.end();
    // Nothing is read until all windows and buffers are full: the programs then stand still.
    await eventually("the programs stand still", async () => {
      const counts = "cat $(pgrep -x head | sed 's|.*|/proc/&/io|') | grep wchar";
      const [first, second] = (await world.shell(`${counts}; echo =; sleep 0.5; ${counts}`)).split("\n=\n");
      return first !== "" && first === second ? true : null;
    });
    const { stdout, stderr, code } = await finished(child);
    assert.deepEqual([code, stdout.length, stderr.length], [0, 20_000_000, 20_000_000]);
    assert.ok(stdout.every((byte) => byte === 0x61));
    assert.match(stderr, /^b+$/);
  });

  test("a terminal has the size of the window, follows it, and takes keys and modes", async () => {
    const script = [
      "import fcntl, os, pty, struct, sys, termios, time",
      "def size(fd, rows, columns): fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack('HHHH', rows, columns, 0, 0))",
      "pid, fd = pty.fork()",
      "if pid == 0:",
      "  size(0, 33, 101)",
      "  os.execvp(sys.argv[1], sys.argv[1:])",
      "seen = b''",
      "def until(text):",
      "  global seen",
      "  while text not in seen: seen += os.read(fd, 4096)",
      "  seen = seen.split(text, 1)[1]",
      "os.write(fd, b'stty size; tty; echo ready-$((1+1))\\n')",
      "until(b'33 101'); until(b'/dev/pts/'); until(b'ready-2')",
      "os.write(fd, b'trap \"stty size; echo changed\" WINCH; echo set-$((1+1))\\n')",
      "until(b'set-2')",
      "size(fd, 44, 155)",
      "until(b'44 155'); until(b'changed')",
      "os.write(fd, b'trap - WINCH; sleep 1000\\n')",
      "until(b'sleep 1000'); time.sleep(0.5)",
      "os.write(fd, b'\\x03')",
      "os.write(fd, b'echo code $?\\n')",
      "until(b'code 130')",
      "os.write(fd, b'exit 7\\n')",
      "print('exit', os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))",
    ].join("\n");
    const args = ["-c", script, "ssh", ...ssh.options, ssh.at(username)];
    const { stdout, stderr } = await within(30_000, "the terminal", ssh.run("python3", args));
    assert.equal(stdout.toString().trim(), "exit 7", stderr);
  });

  test("a client that leaves hangs up its terminal, and the sandbox goes on", async () => {
    const child = ssh.start(username, ["echo $$; exec sleep 4242"], ["-tt"]);
    await once(child.stdout, "data");
    child.kill("SIGKILL");
    await ended(child);
    await eventually("the program has ended", async () =>
      (await world.shell("pgrep -cf 'sleep 424[2]'")) === "0" ? true : null,
    );
    assert.equal(await world.shell("echo here"), "here");
  });

  test("SFTP carries trees, large files, modes, times, links and names that are no UTF-8", async () => {
    const tree = ssh.path("tree");
    await mkdir(join(tree, "deep/er"), { recursive: true });
    const large = randomBytes(20_000_000);
    await writeFile(join(tree, "large"), large);
    await writeFile(join(tree, "deep/er/run.sh"), "#!/bin/sh\necho ran\n", { mode: 0o755 });
    await writeFile(Buffer.concat([Buffer.from(`${tree}/deep/`), Buffer.from([0xff, 0xfe])]), "raw");
    await symlink("er/run.sh", join(tree, "deep/link"));
    const up = await ssh.run("scp", [...ssh.options, "-s", "-r", "-p", tree, `${ssh.at(username)}:/tmp/tree`]);
    assert.equal(up.code, 0, up.stderr);
    assert.equal(await world.shell("sha256sum < /tmp/tree/large"), `${sha256(large)}  -`);
    assert.equal(await world.shell("/tmp/tree/deep/er/run.sh"), "ran");
    assert.equal(await world.shell("ls /tmp/tree/deep | od -An -c | grep -c '377 376'"), "1");
    assert.equal(
      await world.shell("stat -c %Y /tmp/tree/large"),
      String(Math.floor((await stat(join(tree, "large"))).mtimeMs / 1000)),
    );
    const back = ssh.path("back");
    const down = await ssh.run("scp", [...ssh.options, "-s", "-r", `${ssh.at(username)}:/tmp/tree`, back]);
    assert.equal(down.code, 0, down.stderr);
    assert.equal(sha256(await readFile(join(back, "large"))), sha256(large));
    const batch = [
      "cd /tmp/tree",
      "mkdir made",
      "rename large made/moved",
      "symlink made/moved pointer",
      "ln made/moved hard",
      "chmod 600 hard",
      "ls -la",
      "df .",
      "rm hard",
      "-rmdir made",
      "-rm made",
      "ls /tmp/tree/nothing",
    ].join("\n");
    const sftp = await ssh.run("sftp", [...ssh.options, "-b", "-", ssh.at(username)], batch);
    assert.equal(sftp.code, 1, "the last command fails");
    assert.match(sftp.stdout.toString(), /-rw------- .* hard/);
    assert.match(sftp.stderr, /nothing.*not found/);
    assert.equal(
      await world.shell("cd /tmp/tree; readlink pointer; stat -c '%h %a' made/moved; ls"),
      "made/moved\n1 600\ndeep\nmade\npointer",
    );
  });

  test("rsync copies a tree, and again only what has changed", async () => {
    const source = ssh.path("source");
    await mkdir(source);
    await writeFile(join(source, "kept"), randomBytes(1_000_000));
    await writeFile(join(source, "changed"), "one");
    const rsync = () =>
      ssh.run("rsync", [
        "-a",
        "--delete",
        "--itemize-changes",
        "-e",
        ssh.shellWords,
        `${source}/`,
        `${ssh.at(username)}:/tmp/copy/`,
      ]);
    await world.shell("command -v rsync || apt-get install -y rsync");
    const first = await rsync();
    assert.equal(first.code, 0, first.stderr);
    await writeFile(join(source, "changed"), "three");
    const { stdout } = await rsync();
    assert.match(stdout.toString(), /<f\S* changed\n/);
    assert.doesNotMatch(stdout.toString(), /kept/);
    assert.equal(await world.shell("cat /tmp/copy/changed"), "three");
  });

  test("sshfs mounts a sandbox's files", async () => {
    const target = ssh.path("mounted");
    await mkdir(target);
    await world.shell("mkdir -p /tmp/shared && echo inside > /tmp/shared/there");
    const from = `${ssh.at(username)}:/tmp/shared`;
    const mounted = await ssh.run("sshfs", ["-o", `ssh_command=${ssh.shellWords}`, from, target]);
    assert.equal(mounted.code, 0, mounted.stderr);
    try {
      assert.equal(await readFile(join(target, "there"), "utf8"), "inside\n");
      const large = randomBytes(5_000_000);
      await writeFile(join(target, "large"), large);
      await rename(join(target, "large"), join(target, "there"));
      await truncate(join(target, "there"), 1_000_000);
      assert.equal(await world.shell("sha256sum < /tmp/shared/there"), `${sha256(large.subarray(0, 1_000_000))}  -`);
      assert.ok((await statfs(target)).blocks > 0);
    } finally {
      await ssh.run("fusermount3", ["-u", target]);
    }
  });

  test("a local forward reaches a server inside, wherever it listens there", async () => {
    await serve(sandbox, 8123, "127.0.0.1");
    const [port, dynamic] = [await freePort(), await freePort()];
    const child = ssh.start(
      username,
      [],
      ["-N", "-L", `127.0.0.1:${port}:localhost:8123`, "-D", `127.0.0.1:${dynamic}`],
    );
    try {
      const body = Buffer.alloc(5_000_000, "caisson");
      const answer = await eventually("the forward answers", () =>
        fetch(`http://127.0.0.1:${port}/`, { method: "POST", body }).then(
          async (response) => (await response.json()) as { bytes: number; hash: string },
          () => null,
        ),
      );
      assert.deepEqual([answer.bytes, answer.hash], [body.length, sha256(body)]);
      const proxied = await ssh.run("curl", [
        "-s",
        "--socks5-hostname",
        `127.0.0.1:${dynamic}`,
        "http://localhost:8123/large",
      ]);
      assert.equal(proxied.stdout.length, 64 * 1024 * 1024);
    } finally {
      child.kill();
      await ended(child);
    }
  });
});
