import assert from "node:assert/strict";
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, suite, test } from "node:test";
import ssh2 from "ssh2";
import { openHostKey } from "./host-key.ts";

suite("the SSH server's key", () => {
  let directory: string;
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), "caisson-host-key-"));
  });
  afterEach(() => rm(directory, { recursive: true }));

  test("it is made once, for root alone", async () => {
    const made = await openHostKey(directory);
    assert.match(made.publicKey, /^ssh-ed25519 AAAA/);
    assert.match(made.fingerprint, /^SHA256:[\w+/]{43}$/);
    assert.deepEqual(await openHostKey(directory), made);
    assert.deepEqual(await readdir(directory), ["host_ed25519_key"]);
    assert.equal((await stat(join(directory, "host_ed25519_key"))).mode & 0o777, 0o600);
  });

  test("a key that the library has made without its first zeros is not taken", async (t) => {
    const generate = ssh2.utils.generateKeyPairSync;
    const makeBroken = (): ssh2.utils.KeyPairReturn => {
      for (;;) {
        const made = generate("ed25519");
        if (ssh2.utils.parseKey(made.private) instanceof Error) return made;
      }
    };
    const broken = makeBroken();
    const generated = t.mock.method(ssh2.utils, "generateKeyPairSync");
    generated.mock.mockImplementationOnce(() => broken, 0);
    const made = await openHostKey(directory);
    assert.equal(generated.mock.callCount(), 2);
    assert.deepEqual(await openHostKey(directory), made);
  });

  test("what a crash leaves of a key that was being written is made again, and hurts no key that is there", async () => {
    await writeFile(join(directory, "host_ed25519_key.new"), "half a k");
    const made = await openHostKey(directory);
    await writeFile(join(directory, "host_ed25519_key.new"), "half a k");
    assert.deepEqual(await openHostKey(directory), made);
  });

  test("a file that is no such key is refused and kept", async () => {
    for (const text of ["", "nonsense", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ"]) {
      await writeFile(join(directory, "host_ed25519_key"), text);
      await assert.rejects(openHostKey(directory), { code: "INVALID_CONFIG" });
      assert.equal(await readFile(join(directory, "host_ed25519_key"), "utf8"), text);
    }
  });
});
