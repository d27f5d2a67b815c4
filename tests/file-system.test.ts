import assert from "node:assert/strict";
import { after, before, suite, test } from "node:test";
import { Sandbox as CaissonSandbox } from "@caisson/sdk";
import { Client, Sandbox } from "@deno/sandbox";
import { shell } from "./support/client.ts";
import { TestServer } from "./support/server.ts";

/** What programs take for granted of a file system, on a root that is thrown away and on one that lasts. */
suite("file systems as programs need them", () => {
  let server: TestServer;
  before(async () => {
    server = await TestServer.start();
    Object.assign(process.env, server.clientEnv());
  });
  after(() => server?.[Symbol.asyncDispose]());

  const lasting = async (run: (root: string) => Promise<void>) => {
    const volume = await new Client().volumes.create({
      region: "ord",
      slug: "lasting",
      capacity: "2GB",
      from: "builtin:debian-13",
    });
    try {
      await run(volume.slug);
    } finally {
      await new Client().volumes.delete(volume.id);
    }
  };

  const onBothRoots = (name: string, run: (sandbox: Sandbox) => Promise<void>) =>
    suite(name, () => {
      test("on a root that is thrown away", async () => {
        await using sandbox = await Sandbox.create();
        await run(sandbox);
      });

      test("on a root volume", () =>
        lasting(async (root) => {
          await using sandbox = await Sandbox.create({ root });
          await run(sandbox);
        }));
    });

  onBothRoots("directories that came with the root can be renamed", async (sandbox) => {
    const program = `
import os
os.rename("/usr/share/doc", "/usr/share/documents")
os.rename("/usr/share/documents", "/srv/documents")
print(len(os.listdir("/srv/documents")) > 10, os.path.exists("/usr/share/doc"))`;
    assert.equal(await shell(sandbox, `python3 -c '${program}'`), "True False");
  });

  onBothRoots("a file keeps its inode number, and its links, when it is written to", async (sandbox) => {
    const program = `
import os
before = os.stat("/usr/lib/os-release").st_ino
open("/usr/lib/os-release", "a").write("#\\n")
print(os.stat("/usr/lib/os-release").st_ino == before)
links = {}
for entry in os.scandir("/usr/bin"):
    status = entry.stat(follow_symlinks=False)
    if status.st_nlink > 1: links.setdefault((status.st_dev, status.st_ino), []).append(entry.path)
a, b = next(names for names in links.values() if len(names) > 1)[:2]
open(a, "ab").write(b"#")
print(os.path.samefile(a, b), open(a, "rb").read() == open(b, "rb").read())
print(os.stat("/usr").st_dev == os.stat("/etc/passwd").st_dev == os.stat("/usr/lib/os-release").st_dev)`;
    assert.equal(await shell(sandbox, `python3 -c '${program}'`), "True\nTrue True\nTrue");
  });

  test("a sandbox is called as its root volume, or as its creator says, and finds itself by that", async () => {
    const ask = "cat /etc/hostname; hostname; getent hosts $(hostname) | cut -d' ' -f1; hostname -I";
    await lasting(async (root) => {
      for (const [options, name] of [
        [{ root }, "lasting"],
        [{ root, hostname: "db.example" }, "db.example"],
        [{ hostname: "web" }, "web"],
      ] as const) {
        await using created = await CaissonSandbox.create(options);
        await using sandbox = await Sandbox.connect({ id: created.id });
        const [file, kernel, address, ...addresses] = (await shell(sandbox, ask)).trim().split(/\s+/);
        assert.deepEqual([file, kernel, addresses], [name, name, [address]]);
      }
    });
  });
  test("a root volume's temporary files go at its next start, links are not followed, and a volume mounted there keeps its files", async () => {
    const volume = await new Client().volumes.create({ region: "ord", slug: "kept", capacity: "300MB" });
    await lasting(async (root) => {
      const write =
        "mkdir -p /tmp/a/b /tmp/.caisson-old-cut-off/c && touch /tmp/a/b/c /tmp/.d && ln -s /srv /tmp/link && touch /srv/target";
      {
        await using sandbox = await Sandbox.create({ root });
        await shell(sandbox, `${write} && stat -c %a /tmp`);
      }
      {
        await using sandbox = await Sandbox.create({ root });
        await shell(sandbox, "while ls -d /tmp/.caisson-old-* 2>/dev/null; do sleep 0.05; done");
        assert.equal(await shell(sandbox, "ls -A /tmp; ls /srv; stat -c %a /tmp"), "target\n1777");
        await shell(sandbox, "mkdir -p /tmp/below/mounted && ln -s /tmp/below/mounted /mounted");
      }
      {
        await using sandbox = await Sandbox.create({ root, volumes: { "/mounted": volume.id } });
        await shell(sandbox, "touch /tmp/below/mounted/file");
      }
      await using sandbox = await Sandbox.create({ root, volumes: { "/mounted": volume.id } });
      assert.equal(await shell(sandbox, "ls /mounted"), "file");
    });
    await new Client().volumes.delete(volume.id);
  });
});
