import assert from "node:assert/strict";
import { once } from "node:events";
import { readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import { Sandbox } from "@deno/sandbox";
import ssh2, { type Client as RawClient } from "ssh2";
import { TestClient } from "./support/client.ts";
import { eventually, within } from "./support/eventually.ts";
import { freePort } from "./support/free-port.ts";
import { serve } from "./support/preview-world.ts";
import { TestServer } from "./support/server.ts";
import { ended, type SshEndpoint } from "./support/ssh-client.ts";
import { SshWorld } from "./support/ssh-world.ts";

const { utils } = ssh2;
const REFUSED = 255;

suite("who may use SSH, and for what", () => {
  let world: SshWorld;
  let { ssh, client, sandbox, other, username }: Pick<SshWorld, "ssh" | "client" | "sandbox" | "other" | "username"> =
    {} as SshWorld;
  let foreign: TestClient;
  before(async () => {
    world = await SshWorld.start();
    ({ ssh, client, sandbox, other, username } = world);
    await client.rest("POST", "/api/v1/organizations", { slug: "elsewhere" });
    const { token } = await client.rest<{ token: string }>("POST", "/api/v1/tokens", {
      name: "foreign",
      organization: "elsewhere",
    });
    foreign = new TestClient(Object.assign(Object.create(world.server), { token }) as typeof world.server);
  });
  after(() => world[Symbol.asyncDispose]());

  /** Makes a key pair; returns the options that use it, and the line to add. */
  const newKey = async (name: string): Promise<{ readonly options: readonly string[]; readonly line: string }> => {
    const path = ssh.path(name);
    const made = await ssh.run("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-C", `${name} of a test`, "-f", path]);
    assert.equal(made.code, 0, made.stderr);
    return { options: ["-o", `IdentityFile=${path}`], line: await readFile(`${path}.pub`, "utf8") };
  };
  const events = async (id: string): Promise<readonly string[]> =>
    (await client.rest<readonly { verb: string }[]>("GET", `/api/v1/events?object=${id}`)).map(({ verb }) => verb);
  const forwardTo = (raw: RawClient, host: string, port: number): Promise<"open" | "refused"> =>
    new Promise((resolve) => {
      raw.forwardOut("127.0.0.1", 1, host, port, (error, channel) => {
        channel?.destroy();
        resolve(error === undefined ? "open" : "refused");
      });
    });

  test("the host key is one that only root reads", async () => {
    const path = join(world.server.dataDirectory, "ssh/host_ed25519_key");
    assert.equal((await stat(path)).mode & 0o777, 0o600);
    const { stdout } = await ssh.run("ssh-keygen", ["-l", "-f", path]);
    assert.match(stdout.toString(), new RegExp(ssh.endpoint.fingerprint.replaceAll("+", "\\+")));
  });

  test("wrong names, ids without a key and passwords are refused", async () => {
    const names = [
      "root",
      "app",
      sandbox.id,
      `${username.slice(0, -1)}${username.endsWith("0") ? "1" : "0"}`,
      "a".repeat(300),
    ];
    for (const name of names) assert.equal((await ssh.ssh(name, ["true"])).code, REFUSED, name);
  });

  test("a key of the organization logs in to its sandboxes by their ids, and only to those", async () => {
    const key = await newKey("own");
    assert.equal((await ssh.ssh(sandbox.id, ["true"], { more: key.options })).code, REFUSED, "before it is added");
    const added = await client.rest<{ id: string; name: string; fingerprint: string }>("POST", "/api/v1/ssh-keys", {
      public_key: key.line,
    });
    assert.equal(added.name, "own of a test");
    assert.match(added.fingerprint, /^SHA256:/);
    for (const { id } of [sandbox, other])
      assert.equal(
        (await ssh.ssh(id, ["hostname"], { more: key.options })).stdout.toString().trim(),
        id.replaceAll("_", "-"),
      );
    const theirs = await newKey("theirs");
    await foreign.rest("POST", "/api/v1/ssh-keys", { public_key: theirs.line });
    assert.equal((await ssh.ssh(sandbox.id, ["true"], { more: theirs.options })).code, REFUSED);
    const stranger = await newKey("stranger");
    assert.equal((await ssh.ssh(sandbox.id, ["true"], { more: stranger.options })).code, REFUSED);
    assert.deepEqual((await foreign.refused("DELETE", `/api/v1/ssh-keys/${added.id}`))[0], "404 NOT_FOUND");
    assert.equal(
      (await client.refused("POST", "/api/v1/ssh-keys", { public_key: key.line }))[0],
      "400 INVALID_REQUEST",
    );
  });

  test("RSA keys sign with SHA-2, ECDSA keys are taken, and weak ones and private ones are not", async () => {
    for (const [type, bits] of [
      ["rsa", "3072"],
      ["ecdsa", "384"],
    ] as const) {
      const path = ssh.path(type);
      await ssh.run("ssh-keygen", ["-q", "-t", type, "-b", bits, "-N", "", "-f", path]);
      await client.rest("POST", "/api/v1/ssh-keys", { public_key: await readFile(`${path}.pub`, "utf8") });
      const options = ["-o", `IdentityFile=${path}`];
      assert.equal((await ssh.ssh(sandbox.id, ["true"], { more: options })).code, 0, type);
      if (type === "rsa")
        assert.equal(
          (await ssh.ssh(sandbox.id, ["true"], { more: [...options, "-o", "PubkeyAcceptedAlgorithms=ssh-rsa"] })).code,
          REFUSED,
        );
    }
    const { private: secret } = utils.generateKeyPairSync("ed25519");
    const weak = utils.generateKeyPairSync("rsa", { bits: 1024 });
    for (const line of [secret, weak.public, "ssh-ed25519 AAAA", "", "ssh-dss AAAAB3NzaC1kc3M="]) {
      const [code, message] = await client.refused("POST", "/api/v1/ssh-keys", { public_key: line });
      assert.equal(code, "400 INVALID_REQUEST");
      assert.doesNotMatch(message, /PRIVATE KEY/);
    }
  });

  test("a removed key ends its own connections and no others, and lets nobody in any more", async () => {
    const [first, second] = [await newKey("first"), await newKey("second")];
    const add = async (line: string): Promise<string> =>
      (await client.rest<{ id: string }>("POST", "/api/v1/ssh-keys", { public_key: line })).id;
    const [id, kept] = [await add(first.line), await add(second.line)];
    const start = async (user: string, options: readonly string[]) => {
      const child = ssh.start(user, ["echo up; cat"], options);
      await once(child.stdout, "data");
      return child;
    };
    const removed = await start(sandbox.id, first.options);
    const others = [await start(sandbox.id, second.options), await start(username, [])];
    await client.rest("DELETE", `/api/v1/ssh-keys/${id}`);
    assert.equal(await within(30_000, "the removed key's connection", ended(removed)), REFUSED);
    assert.equal((await ssh.ssh(sandbox.id, ["true"], { more: first.options })).code, REFUSED);
    for (const child of others) {
      child.stdin.end("still\n");
      const [bytes] = (await once(child.stdout, "data")) as [Buffer];
      assert.equal(bytes.toString(), "still\n");
      assert.equal(await ended(child), 0);
    }
    assert.deepEqual(await events(id), ["ssh-key-remove", "ssh-key-add"]);
    await client.rest("DELETE", `/api/v1/ssh-keys/${kept}`);
  });

  test("revoked user names, revoked tokens and ended sandboxes end what they opened", async () => {
    const doomed = await Sandbox.create();
    const revoked = await doomed.exposeSsh();
    const child = ssh.start(revoked.username, ["echo up; cat"]);
    await once(child.stdout, "data");
    await client.rest("DELETE", `/api/v3/sandbox/${doomed.id}/expose/ssh`);
    assert.equal(await within(30_000, "the revoked name's connection", ended(child)), REFUSED);
    assert.equal((await ssh.ssh(revoked.username, ["true"])).code, REFUSED);
    assert.deepEqual((await events(doomed.id)).slice(0, 2), ["ssh-access-revoke", "ssh-access-create"]);

    const { id, token } = await client.rest<{ id: string; token: string }>("POST", "/api/v1/tokens", { name: "brief" });
    const brief = new TestClient(Object.assign(Object.create(world.server), { token }) as typeof world.server);
    const made = await brief.rest<{ username: string }>("POST", `/api/v3/sandbox/${doomed.id}/expose/ssh`, {});
    const second = ssh.start(made.username, ["echo up; cat"]);
    await once(second.stdout, "data");
    await client.rest("DELETE", `/api/v1/tokens/${id}`);
    assert.equal(await within(30_000, "the revoked token's connection", ended(second)), REFUSED);
    assert.equal((await ssh.ssh(made.username, ["true"])).code, REFUSED);

    const last = await doomed.exposeSsh();
    const third = ssh.start(last.username, ["echo up; cat"]);
    await once(third.stdout, "data");
    await doomed.kill();
    assert.notEqual(await within(30_000, "the ended sandbox's connection", ended(third)), 0);
    assert.equal((await ssh.ssh(last.username, ["true"])).code, REFUSED);
  });

  test("another organization gets no user name, and a session sandbox does not end with an SSH client but with its creator", async () => {
    const path = `/api/v3/sandbox/${sandbox.id}/expose/ssh`;
    for (const method of ["POST", "DELETE"])
      assert.equal((await foreign.refused(method, path, {}))[0], "404 SANDBOX_NOT_FOUND");
    const session = await Sandbox.create();
    const { username: name } = await session.exposeSsh();
    assert.equal((await ssh.ssh(name, ["true"])).code, 0);
    assert.equal((await ssh.ssh(name, ["true"])).code, 0, "it lives on");
    await session.close();
    await eventually("it has ended", async () => ((await ssh.ssh(name, ["true"])).code === REFUSED ? true : null));
  });

  test("a forward reaches the sandbox's own ports and nothing else", async () => {
    await serve(sandbox, 8124, "127.0.0.1");
    await serve(other, 8125, "0.0.0.0");
    const raw = await world.openRaw();
    const theirs = (await other.sh`hostname -I`.text()).trim().split(" ")[0] ?? "";
    const gateway = (await sandbox.sh`ip route show default 2>/dev/null | cut -d' ' -f3`.text()).trim() || "10.0.0.1";
    for (const host of ["localhost", "127.0.0.1", "LOCALHOST", sandbox.id])
      assert.equal(await forwardTo(raw, host, 8124), "open", host);
    const { port } = new URL(world.server.endpoint);
    const outside: readonly (readonly [string, number])[] = [
      ["localhost", Number(port)],
      ["127.0.0.1", ssh.endpoint.port],
      [theirs, 8125],
      [other.id, 8125],
      [gateway, 22],
      ["169.254.169.254", 80],
      ["0.0.0.0", 8124],
      ["::", 8124],
      ["::ffff:127.0.0.1", Number(port)],
      ["2130706433", 8124],
      ["127.0.0.1.example.com", 8124],
      ["example.com", 443],
      ["localhost", 0],
      ["localhost", 70_000],
      ["", 8124],
    ];
    for (const [host, at] of outside) assert.equal(await forwardTo(raw, host, at), "refused", `${host}:${at}`);
    raw.end();
  });

  test("agent, X11, remote and socket forwarding and unknown subsystems are refused", async () => {
    const port = await freePort();
    const remote = await ssh.ssh(username, ["true"], {
      more: ["-o", "ExitOnForwardFailure=yes", "-R", `${port}:127.0.0.1:1`],
    });
    assert.equal(remote.code, REFUSED);
    assert.match(
      (await ssh.ssh(username, ["echo [$SSH_AUTH_SOCK$DISPLAY]"], { more: ["-A", "-X"] })).stdout.toString(),
      /^\[\]/,
    );
    const raw = await world.openRaw();
    await assert.rejects(
      new Promise((resolve, reject) => {
        raw.openssh_forwardOutStreamLocal("/run/caisson/agent.sock", (error) =>
          error ? reject(error) : resolve(null),
        );
      }),
    );
    await assert.rejects(
      new Promise((resolve, reject) => raw.subsys("netconf", (error) => (error ? reject(error) : resolve(null)))),
    );
    raw.end();
  });
});

test("SSH can be switched off, keeps its key over restarts, and a damaged key says what to do", async () => {
  await using server = await TestServer.start();
  const client = new TestClient(server);
  const read = () => client.rest<SshEndpoint>("GET", "/api/v1/ssh");
  const { host_key: key } = await read();
  await server.stop();
  await server.start();
  assert.equal((await read()).host_key, key);
  await server.stop();
  await server.writeSettings("[ssh]\nenabled = false\n");
  await server.start();
  assert.equal((await client.refused("GET", "/api/v1/ssh"))[0], "501 NOT_SUPPORTED");
  await server.stop();
  await server.writeSettings();
  await writeFile(join(server.dataDirectory, "ssh/host_ed25519_key"), "");
  await assert.rejects(server.start(), /is no Ed25519 key of OpenSSH/);
});
