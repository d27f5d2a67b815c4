import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readdir, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { promisify } from "node:util";
import { Terminal } from "./support/terminal.ts";
import { TestServer } from "./support/test-server.ts";

const exec = promisify(execFile);

let server: TestServer;
let files: string;
before(async () => {
  server = await TestServer.start();
  files = join(server.directory, ".config/caisson/ssh");
});
after(() => server[Symbol.asyncDispose]());

test("ssh runs a command without a question, with its input, output and exit code, and leaves no user name", async () => {
  const id = await server.succeed("create", "--timeout", "5m");
  const { stdout, stderr, code } = await server.run(["ssh", id, "cat; echo err >&2; exit 9"], "through");
  assert.deepEqual([stdout, stderr, code], ["through", "err\n", 9]);
  assert.deepEqual((await readdir(files)).length, 1, "the known host stays, the credential does not");
  const events = JSON.parse(
    await (
      await fetch(new URL(`/api/v1/events?object=${id}`, server.endpoint), {
        headers: { authorization: `Bearer ${server.environment.CAISSON_TOKEN}` },
      })
    ).text(),
  ) as readonly { verb: string }[];
  assert.deepEqual(
    events.slice(0, 2).map(({ verb }) => verb),
    ["ssh-access-revoke", "ssh-access-create"],
  );
  assert.equal((await server.run(["ssh", "sbx_ord_00000000000000000000", "true"])).code, 4);
});

test("ssh on a terminal is a login shell there, and create --ssh opens one", async () => {
  await using terminal = Terminal.start(["create", "--ssh"], 91, server.environment);
  await terminal.waitFor(/SSH: ssh -p \d+ [0-9a-z]{26}@127\.0\.0\.1/);
  await terminal.waitFor(/[#$] $/);
  terminal.type("echo size: $(stty size) $SSH_TTY\r");
  await terminal.waitFor(/size: 24 91 \/dev\/pts\/\d+[\s\S]*[#$] $/);
  terminal.type("exit 7\r");
  assert.equal(await terminal.exitCode(), 7);
});

test("keys are added, listed and removed, and ssh-config makes plain ssh work", async () => {
  const key = join(server.directory, "id");
  await exec("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-C", "me@laptop", "-f", key]);
  const before = await server.run(["ssh-config"]);
  assert.match(before.stderr, /No key may log in yet/);
  const added = await server.run(["ssh-keys", "add", `${key}.pub`]);
  const keyId = added.stdout.trim();
  assert.match(added.stderr, /^me@laptop: SHA256:/);
  assert.match(
    await server.succeed("ssh-keys", "list"),
    new RegExp(`^ID .*\n${keyId} +me@laptop +SHA256:\\S+ +ssh-ed25519 `),
  );
  assert.equal((await server.run(["ssh-keys", "add", key])).code, 2, "a private key");
  assert.equal((await server.run(["ssh-keys", "add", "/nonexistent"])).code, 2);

  const id = await server.succeed("create", "--timeout", "5m", "--label", "name=mine");
  const include = await server.succeed("ssh-config", "--quiet");
  assert.equal(include, `Include "${join(files, "config")}"`);
  assert.equal((await stat(join(files, "config"))).mode & 0o777, 0o600);
  const config = join(server.directory, "config");
  await writeFile(config, `${include}\nHost *\n  IdentityFile ${key}\n  IdentityAgent none\n  BatchMode yes\n`);
  for (const name of [id, "mine", `${id}@caisson`]) {
    const { stdout } = await exec("ssh", ["-F", config, name, "hostname"]);
    assert.equal(stdout.trim(), id.replaceAll("_", "-"), name);
  }
  const later = await server.succeed("create", "--timeout", "5m");
  assert.equal((await exec("ssh", ["-F", config, `${later}@caisson`, "echo new"])).stdout, "new\n");
  assert.equal(await server.succeed("ssh-keys", "remove", keyId), `Removed key ${keyId}`);
  await assert.rejects(exec("ssh", ["-F", config, id, "true"]), { code: 255 });
  assert.equal((await server.run(["ssh-keys", "remove", keyId])).code, 4);
  assert.match(await readFile(join(files, "config"), "utf8"), /^# Written by/);
});

test("ssh-revoke ends what exposeSsh has opened", async () => {
  const created = await server.run(["create", "--timeout", "5m", "--ssh"]);
  const id = created.stdout.trim();
  const [, port = "", address = ""] = /ssh -p (\d+) (\S+)/.exec(created.stderr) ?? [];
  const options = [
    "-F",
    "/dev/null",
    "-o",
    "StrictHostKeyChecking=no",
    "-o",
    "UserKnownHostsFile=/dev/null",
    "-o",
    "BatchMode=yes",
    "-o",
    "IdentityAgent=none",
  ];
  const login = () => exec("ssh", [...options, "-p", port, address, "echo in"]);
  assert.equal((await login()).stdout, "in\n");
  assert.equal(await server.succeed("ssh-revoke", id), `Revoked the SSH user names of ${id}`);
  await assert.rejects(login(), { code: 255 });
});
