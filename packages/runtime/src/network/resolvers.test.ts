import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import { formatResolvConf, readResolvers } from "./resolvers.ts";

suite("name servers of the host", () => {
  let directory: string;
  before(async () => {
    directory = await mkdtemp(join(tmpdir(), "caisson-resolvers-"));
  });
  after(() => rm(directory, { recursive: true }));

  const file = async (name: string, content: string): Promise<string> => {
    await writeFile(join(directory, name), content);
    return join(directory, name);
  };

  test("those of resolv.conf come in their order", async () => {
    const path = await file("plain", "# comment\nsearch example.com\nnameserver 192.0.2.53\nnameserver 203.0.113.53\n");
    assert.deepEqual(await readResolvers([path]), ["192.0.2.53", "203.0.113.53"]);
  });

  test("a stub on the loopback interface is passed over for the servers behind it", async () => {
    const stub = await file("stub", "nameserver 127.0.0.53\noptions edns0\n");
    const real = await file("real", "nameserver 198.51.100.53\n");
    assert.deepEqual(await readResolvers([stub, real]), ["198.51.100.53"]);
  });

  test("only loopback or IPv6 servers, or no file at all, give none", async () => {
    const stub = await file("local", "nameserver 127.0.0.1\nnameserver ::1\nnameserver 2001:db8::53\n");
    assert.deepEqual(await readResolvers([stub, join(directory, "absent")]), []);
  });

  test("with several servers a silent one costs little, and the host's own options come last, where they count", () => {
    assert.equal(
      formatResolvConf(["10.0.0.1", "10.0.0.2"], ["search example.com", "options ndots:2"]),
      "nameserver 10.0.0.1\nnameserver 10.0.0.2\noptions timeout:1 attempts:5\nsearch example.com\noptions ndots:2\n",
    );
    assert.equal(formatResolvConf(["10.0.0.1"], []), "nameserver 10.0.0.1\n");
  });
});
