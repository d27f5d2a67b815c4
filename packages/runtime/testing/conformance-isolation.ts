import assert from "node:assert/strict";
import { readlink } from "node:fs/promises";
import { hostname } from "node:os";
import { describe, test } from "node:test";
import type { Harness } from "./harness.ts";
import { readScript } from "./test-sandbox.ts";

/** What a sandbox is and sees. Attempts to get out of one are in the end-to-end tests. */
export function describeIsolationConformance(harness: () => Harness): void {
  describe("isolation", () => {
    test("root is an unprivileged user of the host, in namespaces of its own", async () => {
      await harness().with({}, async (sandbox) => {
        const [inside, outside, count] = (await readScript(sandbox, "cat /proc/self/uid_map"))
          .trim()
          .split(/\s+/)
          .map(Number);
        assert.deepEqual([inside, count], [0, 65536]);
        assert.ok(outside !== undefined && outside >= 0x70000000);
        for (const name of ["user", "net", "mnt", "pid", "ipc", "uts", "cgroup"]) {
          assert.notEqual(
            await readScript(sandbox, `readlink /proc/self/ns/${name}`),
            await readlink(`/proc/self/ns/${name}`),
            name,
          );
        }
        assert.notEqual(await readScript(sandbox, "hostname"), hostname());
      });
    });

    test("capabilities are the documented set, without ways to gain more", async () => {
      await harness().with({}, async (sandbox) => {
        const capabilities = await readScript(
          sandbox,
          "grep -E '^Cap(Prm|Eff|Bnd)' /proc/self/status | cut -f2 | sort -u",
        );
        // CHOWN, DAC_OVERRIDE, FOWNER, KILL, FSETID, SETGID, SETUID, NET_BIND_SERVICE, SYS_CHROOT, SETFCAP
        assert.equal(capabilities, "00000000800404fb");
      });
    });

    test("only the sandbox's own processes are visible", async () => {
      await harness().with({}, async (sandbox) => {
        const commands = await readScript(sandbox, "ps -eo args= | cut -d' ' -f1 | sort -u");
        assert.match(commands, /^\/\.caisson\/bin\/tini$/m);
        assert.ok(commands.split("\n").length < 8, commands);
      });
    });

    test("no path of the host shows in the mounts", async () => {
      await harness().with(
        { mounts: [{ sourcePath: await harness().host.newDirectory(), targetPath: "/data", isReadOnly: false }] },
        async (sandbox) => {
          const mounts = await readScript(sandbox, "cat /proc/self/mounts");
          assert.doesNotMatch(mounts, /caisson-runtime-|\/tmp\//);
        },
      );
    });

    test("packages install, as root and through sudo, and other users work", async () => {
      await harness().with({}, async (sandbox) => {
        assert.equal(
          await readScript(sandbox, "sudo id -u; sudo sh -c 'echo $HOME'; sudo -u nobody id -un"),
          "0\n/home/app\nnobody",
        );
        assert.equal(
          await readScript(
            sandbox,
            "su nobody -s /bin/sh -c 'sudo id' 2>&1 | tail -1 | grep -c 'password is required\\|terminal is required'",
          ),
          "1",
        );
        await readScript(
          sandbox,
          "cd /tmp && mkdir -p p/DEBIAN p/usr/share/p && printf 'Package: p\\nVersion: 1\\nArchitecture: all\\nMaintainer: a <a@b.c>\\nDescription: d\\n' >p/DEBIAN/control && chown -R 33:33 p/usr/share/p && dpkg-deb --build p && sudo apt-get install -y ./p.deb",
        );
        assert.equal(await readScript(sandbox, "stat -c %U /usr/share/p"), "www-data");
      });
    });

    test("the ordinary tools are there and work", async () => {
      await harness().with({}, async (sandbox) => {
        const script =
          "git --version; python3 -c 'print(1)'; curl --version; unzip -v; ps; deno --version; node --version; npm --version; npx --version; ping -c1 127.0.0.1";
        for (const command of script.split("; ")) await readScript(sandbox, command);
        assert.equal(await readScript(sandbox, "deno eval 'console.log(1 + 1)'; node -p '1 + 2'"), "2\n3");
        await readScript(
          sandbox,
          "openssl version -d 2>/dev/null; test -s $SSL_CERT_FILE && git init -q repo && cd repo && touch a && git add a",
        );
      });
    });

    test("a replaced agent socket leads nobody anywhere", async () => {
      await harness().with({}, async (sandbox) => {
        await readScript(sandbox, "rm /.caisson/run/agent.sock && ln -s /run/host.sock /.caisson/run/agent.sock");
        assert.equal(await readScript(sandbox, "echo still here"), "still here");
      });
    });
  });
}
