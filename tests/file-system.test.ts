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
      const deep = 'import os\nos.chdir("/tmp")\nfor _ in range(20000): os.mkdir("d"); os.chdir("d")';
      {
        await using sandbox = await Sandbox.create({ root });
        await shell(sandbox, `${write} && touch /run/gone && stat -c %a /tmp`);
        // So deep that a removal which calls itself for each level ends its whole process.
        await shell(sandbox, `python3 -c '${deep}'`);
      }
      {
        await using sandbox = await Sandbox.create({ root });
        await shell(sandbox, "while ls -d /tmp/.caisson-old-* 2>/dev/null; do sleep 0.05; done");
        assert.equal(
          await shell(sandbox, "ls -A /tmp; ls /srv; stat -c %a /tmp; ls -d /run/gone 2>/dev/null; stat -f -c %T /run"),
          "target\n1777\ntmpfs",
        );
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

  const fill = {
    bytes: "with open('/full', 'wb', 0) as full:\n  while True: full.write(bytes(2**20))",
    inodes: "os.mkdir('/many')\nfor i in range(10**7): os.mknod(f'/many/{i}')",
  };
  /**
   * Runs the program until there is no room for what it does, and then takes the rest of the room by small files and directories: more than once, because
   * what the file system had set aside is only free with its next commit.
   */
  const untilFull = (program: string, top = "/") => `python3 - <<'END'
import errno, itertools, os
os.chroot("${top}")
numbers = itertools.count()
def until_full(run):
  try: run()
  except OSError as error: assert error.errno == errno.ENOSPC, error
def fill():
  ${program.replaceAll("\n", "\n  ")}
def files():
  for i in numbers:
    with open(f"/tmp/rest{i}", "w") as file: file.write("x"); file.flush(); os.fsync(file)
def directories():
  for i in numbers: os.mkdir(f"/srv/no-room{i}")
until_full(fill)
for _ in range(3): until_full(files); until_full(directories); os.sync()
END`;
  for (const [what, command] of Object.entries(fill)) {
    test(`a root volume that is full of ${what} boots, and its /tmp is cleared; so does one that was never booted, and a sandbox from its snapshot`, () =>
      lasting(async (root) => {
        const client = new Client();
        const session = async (run: (sandbox: Sandbox) => Promise<void>) => {
          await using sandbox = await Sandbox.create({ root });
          await run(sandbox);
        };
        await session(async (sandbox) => {
          await shell(sandbox, "mkdir /tmp/a && echo b > /tmp/a/b && touch /tmp/c");
          assert.equal(await shell(sandbox, untilFull(command)), "");
        });
        await session(async (sandbox) => {
          assert.equal(
            await shell(
              sandbox,
              "while ls -d /tmp/.caisson-old-* 2>/dev/null; do sleep 0.05; done; ls -A /tmp; echo boots",
            ),
            "boots",
          );
          assert.equal(await shell(sandbox, "rm -rf /full /many && echo room > /file && cat /file"), "room");
        });
        const create = { region: "ord", capacity: "2GB", from: "builtin:debian-13" } as const;
        const fresh = await client.volumes.create({ ...create, slug: "never-booted" });
        {
          await using sandbox = await Sandbox.create({ volumes: { "/v": fresh.slug } });
          assert.equal(await shell(sandbox, untilFull(command, "/v")), "");
        }
        const data = await client.volumes.create({ region: "ord", capacity: "300MB", slug: "data" });
        await assert.rejects(Sandbox.create({ root: fresh.slug, volumes: { "/new": data.slug } }), {
          code: "INVALID_CONFIG",
          status: 400,
          message:
            /Cannot mount a volume at "\/new": there is no such directory, and no room for one: the root is full/,
        });
        {
          await using sandbox = await Sandbox.create({ root: fresh.slug, volumes: { "/srv": data.slug } });
          await shell(sandbox, "echo there >/srv/file");
        }
        const snapshot = await client.volumes.snapshot(fresh.slug, { slug: "full" });
        for (const full of [fresh, snapshot]) {
          await using sandbox = await Sandbox.create({ root: full.slug });
          assert.equal(await shell(sandbox, "sudo echo boots; id -u"), "boots\n0");
        }
        {
          await using sandbox = await Sandbox.create({ root: snapshot.slug, volumes: { "/new": data.slug } });
          assert.equal(await shell(sandbox, "cat /new/file"), "there");
        }
        await client.volumes.delete(data.id);
        await client.snapshots.delete(snapshot.id);
        await client.volumes.delete(fresh.id);
      }));
  }

  test("a volume that has nowhere to be mounted is refused with the reason, and is free at once", () =>
    lasting(async (root) => {
      const client = new Client();
      for (const slug of ["data", "other"]) await client.volumes.create({ region: "ord", capacity: "300MB", slug });
      {
        await using sandbox = await Sandbox.create({ root, volumes: { "/data": "data" } });
        await shell(
          sandbox,
          "echo kept >/file && mkfifo /pipe && ln -s /nowhere/at/all /dangling && ln -s loop /loop && ln -s /srv /link && ln -s gone /data/dangling",
        );
      }
      const refused: readonly (readonly [string, RegExp])[] = [
        ["/file", /"\/file": \/file is a file, not a directory\. Remove it, or mount it elsewhere/],
        ["/file/below", /\/file is a file/],
        ["/pipe", /\/pipe is a special file/],
        ["/dangling", /the link \/dangling leads to \/nowhere, where nothing is/],
        ["/dangling/below", /the link \/dangling leads to \/nowhere/],
        ["/loop", /too many links/],
        ["/data/dangling", /the link \/data\/dangling leads to \/data\/gone/],
        ["/data/missing", /there is no \/data\/missing, and its volume is mounted read-only\. Make the directory/],
      ];
      for (const [path, message] of refused) {
        const volumes = { "/data": { volume: "data", readOnly: true }, [path]: "other" };
        await assert.rejects(CaissonSandbox.create({ root, volumes }), {
          code: "INVALID_CONFIG",
          status: 400,
          message,
        });
      }
      const volumes = { "/link/new/deep": "other", "/data": "data" };
      await using sandbox = await Sandbox.create({ root, volumes });
      assert.equal(
        await shell(
          sandbox,
          "echo works >/srv/new/deep/file; cat /link/new/deep/file /file; ls -d /nowhere 2>&1 | wc -l",
        ),
        "works\nkept\n1",
      );
      await sandbox.close();
      for (const slug of ["data", "other"]) await client.volumes.delete(slug);
    }));
});
