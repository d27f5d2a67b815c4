import assert from "node:assert/strict";
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { after, before, suite, test } from "node:test";
import ssh2, { type ClientChannel } from "ssh2";
import { closed } from "./support/closed.ts";
import { eventually, within } from "./support/eventually.ts";
import type { SshClient } from "./support/ssh-client.ts";
import { SshWorld } from "./support/ssh-world.ts";

const { Client } = ssh2;
const REFUSED = 255;

suite("SSH under attack", () => {
  let world: SshWorld;
  let ssh: SshClient;
  let username: string;
  const quiet = (): Socket =>
    connect(ssh.endpoint.port, ssh.endpoint.hostname)
      .on("error", () => {})
      .resume();
  /** Of a client that says nothing. The tests go on while the server waits for it. */
  let endOfQuiet: Promise<unknown>;
  before(async () => {
    world = await SshWorld.start();
    ({ ssh, username } = world);
    endOfQuiet = closed(quiet());
  });
  after(() => world[Symbol.asyncDispose]());

  test("a client's variables reach its own program, and neither the agent nor other sessions", async () => {
    const variables = "LD_PRELOAD=/tmp/evil.so PATH=/tmp/evil CAISSON_AGENT_SOCKET=/tmp/x BASH_ENV=/tmp/evil.sh";
    const more = ["-o", `SetEnv=${variables}`];
    const own = await ssh.ssh(username, ["/usr/bin/env"], { more });
    assert.match(own.stdout.toString(), /^PATH=\/tmp\/evil$/m);
    const after = await world.shell("env; cat /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n' | grep -c evil");
    assert.doesNotMatch(after, /PATH=\/tmp\/evil/);
    assert.equal(after.split("\n").at(-1), "0");
    const raw = await world.openRaw();
    const env: Record<string, string> = { GOOD: "1", "BAD NAME": "2", "BAD=NAME": "3" };
    for (let count = 0; count < 1_000; count += 1) env[`MANY_${count}`] = "x".repeat(100);
    const channel = await new Promise<ClientChannel>((resolve, reject) =>
      raw.exec("env", { env }, (error, opened) => (error ? reject(error) : resolve(opened))),
    );
    let text = "";
    for await (const bytes of channel) text += String(bytes);
    assert.match(text, /^GOOD=1$/m);
    assert.doesNotMatch(text, /^BAD/m);
    assert.ok((text.match(/^MANY_/gm) ?? []).length < 200);
    raw.end();
  });

  test("algorithms that are not modern, or cost the server too much, are refused", async () => {
    const weak = [
      "KexAlgorithms=diffie-hellman-group14-sha1",
      "KexAlgorithms=diffie-hellman-group14-sha256",
      "Ciphers=aes128-cbc",
      "Ciphers=3des-cbc",
      "MACs=hmac-sha1 -o Ciphers=aes128-ctr",
      "MACs=hmac-sha2-256 -o Ciphers=aes128-ctr",
      "HostKeyAlgorithms=ssh-rsa",
      "KexAlgorithms=diffie-hellman-group18-sha512",
    ];
    for (const option of weak) {
      const { code, stderr } = await ssh.ssh(username, ["true"], { more: ["-o", ...option.split(" ")] });
      assert.deepEqual(
        [code, /no matching|Unable to negotiate/i.test(stderr)],
        [REFUSED, true],
        `${option}: ${stderr}`,
      );
    }
    for (const option of ["Ciphers=aes256-gcm@openssh.com", "Ciphers=aes256-ctr", "KexAlgorithms=curve25519-sha256"])
      assert.equal((await ssh.ssh(username, ["true"], { more: ["-o", option] })).code, 0, option);
  });

  test("1,000 channels: those beyond the limit are refused, the others and other clients work", async () => {
    const raw = await world.openRaw();
    const open = (): Promise<ClientChannel | null> =>
      new Promise((resolve) => raw.exec("cat", (error, channel) => resolve(error ? null : channel)));
    const channels = (await Promise.all(Array.from({ length: 1_000 }, open))).filter((channel) => channel !== null);
    assert.equal(channels.length, 128);
    const [first] = channels;
    first?.write("through\n");
    assert.equal(String((await once(first as ClientChannel, "data"))[0]), "through\n");
    assert.equal(await world.shell("echo other"), "other");
    raw.end();
    await eventually("its programs have ended", async () =>
      (await world.shell("pgrep -c -x cat")) === "0" ? true : null,
    );
  });

  test("a client that ignores the window, and one that never reads, are held to a bound", async () => {
    const raw = await world.openRaw();
    const flood = await new Promise<ClientChannel>((resolve, reject) =>
      raw.exec("sleep 60", (error, channel) => (error ? reject(error) : resolve(channel))),
    );
    const inner = raw as unknown as { _protocol: { channelData(id: number, bytes: Buffer): void } };
    const { id } = flood.outgoing as { readonly id: number };
    const end = closed(raw);
    // Of a size that never meets the end of the window exactly.
    const piece = Buffer.alloc(32_001);
    const timer = setInterval(() => {
      for (let count = 0; count < 32; count += 1) inner._protocol.channelData(id, piece);
    }, 5);
    after(() => clearInterval(timer));
    await within(20_000, "the flood's end", end);
    clearInterval(timer);
    assert.equal(await world.shell("echo well"), "well");

    const deaf = await world.openRaw();
    await new Promise<ClientChannel>((resolve, reject) =>
      deaf.exec("head -c 500000000 /dev/zero", (error, channel) => {
        if (error) return reject(error);
        const protocol = deaf as unknown as {
          _protocol: { channelWindowAdjust(id: number, bytes: number): void };
          _sock: Socket;
        };
        protocol._protocol.channelWindowAdjust((channel.outgoing as { readonly id: number }).id, 2 ** 31 - 1);
        protocol._sock.pause();
        resolve(channel);
      }),
    );
    const written = await eventually("the program stands still", async () => {
      const count = "grep wchar /proc/$(pgrep -x head)/io | cut -d' ' -f2";
      const [first, second] = (await world.shell(`${count}; sleep 1; ${count}`)).split("\n");
      return first !== undefined && first === second ? Number(first) : null;
    });
    assert.ok(written < 32 * 1024 * 1024, `${written} bytes were fetched for a client that reads nothing`);
    deaf.destroy();
  });

  test("a client that takes its output in tiny packets, or in packets of nothing, is cut off", async () => {
    for (const bytes of [0, 1, 1023]) {
      const raw = await world.openRaw();
      const protocol = (raw as unknown as { _protocol: { session(id: number, window: number, size: number): void } })
        ._protocol;
      const session = protocol.session.bind(protocol);
      protocol.session = (id, window) => session(id, window, bytes);
      const end = closed(raw);
      raw.exec("head -c 200000 /dev/zero", () => {});
      await within(20_000, `its end, with packets of ${bytes}`, end);
    }
    assert.equal(await world.shell("echo well"), "well");
  });

  test("keys are exchanged anew after the login only, and not without end", async () => {
    const exchangeOnAndOn = async (authHandler?: () => void): Promise<number> => {
      const raw = new Client();
      const rekey = (): void => (raw as unknown as { _protocol: { rekey(): void } })._protocol.rekey();
      // The first is no new exchange.
      let count = -1;
      raw
        .on("error", () => {})
        .on("handshake", () => {
          count += 1;
          if (count > 0 || authHandler !== undefined) setImmediate(rekey);
        });
      if (authHandler === undefined) raw.on("ready", rekey);
      const { hostname: host, port } = ssh.endpoint;
      raw.connect({ host, port, username, hostVerifier: () => true, ...(authHandler && { authHandler }) });
      await within(20_000, "its end", closed(raw));
      return count;
    };
    assert.ok((await exchangeOnAndOn(() => {})) <= 1, "before the login");
    const count = await exchangeOnAndOn();
    assert.ok(count >= 30 && count < 60, `${count} exchanges after the login`);
  });

  test("an attack on the login is slowed down, and what is slow to log in is cut off", async () => {
    const { hostname, port } = ssh.endpoint;
    const silent = Array.from({ length: 60 }, quiet);
    await eventually("no more than that at a time from one address", () =>
      silent.filter(({ destroyed }) => !destroyed).length <= 31 ? true : null,
    );
    for (const socket of silent) socket.destroy();
    const started = Date.now();
    let refusedAtOnce = 0;
    while (Date.now() - started < 20_000 && refusedAtOnce < 5) {
      const socket = connect(port, hostname);
      socket.on("error", () => {});
      let greeted = false;
      socket.on("data", () => {
        if (!greeted)
          socket.end("SSH-2.0-x\r\nnonsense that is no packet at all, and long enough to be taken for one\r\n");
        greeted = true;
      });
      await closed(socket);
      if (!greeted) refusedAtOnce += 1;
    }
    assert.equal(refusedAtOnce, 5);
    await eventually(
      "it is let in again when it has waited",
      async () => ((await ssh.ssh(username, ["true"])).code === 0 ? true : null),
      60_000,
    );
    await within(60_000, "the end of a connection that never logs in", endOfQuiet);
  });
});
