import assert from "node:assert/strict";
import { X509Certificate } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import { PACKAGES } from "@caisson/server/base-image";
import { Client, Sandbox } from "@deno/sandbox";
import { endInTurn } from "./support/end-in-turn.ts";
import { TestServer } from "./support/server.ts";

const BUNDLE = "/etc/ssl/certs/ca-certificates.crt";
/** Where the administrator of a Debian host puts certificates. */
const HOST_CERTIFICATES = "/usr/local/share/ca-certificates";

const DOCUMENT = join(import.meta.dirname, "../docs/inside.md");

/** A package for pip, without the tools that build one. */
const MAKE_WHEEL = `
python3 - <<'END'
import zipfile
with zipfile.ZipFile("/tmp/greeting-1.0-py3-none-any.whl", "w") as wheel:
    wheel.writestr("greeting.py", "TEXT = 'hello'\\n")
    wheel.writestr("greeting-1.0.dist-info/METADATA", "Metadata-Version: 2.1\\nName: greeting\\nVersion: 1.0\\n")
    wheel.writestr("greeting-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
    wheel.writestr("greeting-1.0.dist-info/RECORD", "greeting.py,,\\ngreeting-1.0.dist-info/METADATA,,\\ngreeting-1.0.dist-info/WHEEL,,\\ngreeting-1.0.dist-info/RECORD,,\\n")
END`;

/** A certificate authority, a certificate for localhost, and a web server with it, made inside. */
const MAKE_SERVER = `
set -e
mkdir -p /tmp/tls; cd /tmp/tls
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj '/CN=Test CA' -keyout ca.key -out ca.crt \\
  -addext basicConstraints=critical,CA:TRUE -addext keyUsage=keyCertSign
openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=localhost -keyout server.key -out server.csr
printf 'subjectAltName=DNS:localhost\\nextendedKeyUsage=serverAuth\\n' > server.ext
openssl x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile server.ext -out server.crt
echo 'the page' > page
mkdir repository.git && git -C repository.git init --bare -q && git -C repository.git update-server-info
`;
const SERVE = `
import http.server, ssl
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("server.crt", "server.key")
server = http.server.ThreadingHTTPServer(("localhost", 8443), http.server.SimpleHTTPRequestHandler)
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
`;

/** What a program finds in a fresh sandbox (protocol.md 5.6). */
suite("environment inside", () => {
  let server: TestServer;
  let sandbox: Sandbox;

  before(async () => {
    server = await TestServer.start({ settings: "[sandboxes]\npids = 700\n" });
    Object.assign(process.env, server.clientEnv());
    sandbox = await Sandbox.create();
  });
  after(() =>
    endInTurn(
      () => sandbox?.kill(),
      () => server?.[Symbol.asyncDispose](),
    ),
  );

  const sh = async (script: string): Promise<string> => {
    const child = await sandbox.spawn("bash", { args: ["-c", script], stdout: "piped", stderr: "piped" });
    const { stdoutText, stderrText, status } = await child.output();
    assert.ok(status.success, `${script}: ${stderrText}`);
    return (stdoutText ?? "").trim();
  };

  test("every documented package is in the image, every package of the recipe is documented, and the commands are there", async () => {
    const rows = [...toolSection(await readFile(DOCUMENT, "utf8")).matchAll(/^\| `([a-z0-9.-]+)` \| (.*) \|$/gm)];
    const documented = rows.map(([, name = ""]) => name);
    assert.deepEqual(documented, PACKAGES);
    await sh(`dpkg-query --show ${documented.join(" ")}`);
    const commands = rows.flatMap(([, , text = ""]) => [...(text.split(";", 1)[0]?.matchAll(/`([^`]+)`/g) ?? [])]);
    assert.ok(commands.length > 30);
    await sh(
      `for name in ${commands.map(([, name]) => name).join(" ")}; do command -v $name || { echo no $name >&2; exit 1; }; done`,
    );
  });

  test("versions are the documented ones", async () => {
    const text = await readFile(DOCUMENT, "utf8");
    const node = /^v(\d+)/.exec(await sh("node --version"))?.[1];
    const python = /^Python (\d+\.\d+)/.exec(await sh("python3 --version"))?.[1];
    assert.ok(text.includes(`\nNode ${node} with \`npm\` and \`npx\`, Python ${python}, and Deno`));
  });

  test("the variables are the documented ones", async () => {
    const text = await readFile(DOCUMENT, "utf8");
    for (const [name, value] of Object.entries({
      PATH: await sh("echo $PATH"),
      LANG: await sh("echo $LANG"),
      IS_SANDBOX: await sh("echo $IS_SANDBOX"),
      DEBIAN_FRONTEND: await sh("echo $DEBIAN_FRONTEND"),
    })) {
      assert.ok(text.includes(`| \`${name}\` | \`${value}\``), `${name}=${value}`);
    }
  });

  for (const tool of [
    "bash --version",
    "sudo --version",
    "deno --version",
    "git --version",
    "curl --version",
    "python3 --version",
    "pip --version",
    "node --version",
    "npm --version",
    "npx --version",
    "unzip -v",
    "ps --version",
    "openssl version",
    "apt-get --version",
  ]) {
    test(`${tool.split(" ")[0]} runs`, async () => {
      assert.match(await sh(tool), /\d+\.\d+/);
    });
  }

  test("pip installs for the whole system, and in a virtual environment", async () => {
    await sh(MAKE_WHEEL);
    await sh("cd /tmp && pip install --no-index ./greeting-1.0-py3-none-any.whl");
    assert.equal(await sh("python3 -c 'import greeting; print(greeting.__file__)' | cut -d/ -f1-3"), "/usr/local");
    await sh(
      "cd /tmp && pip uninstall -y greeting && python3 -m venv v && v/bin/pip install --no-index ./greeting-1.0-py3-none-any.whl",
    );
    assert.equal(await sh("/tmp/v/bin/python -c 'import greeting; print(greeting.TEXT)'"), "hello");
    await assert.rejects(sh("python3 -c 'import greeting'"), /ModuleNotFoundError/);
  });

  test("what npm installs globally is on the PATH, also after a login", async () => {
    await sh(
      `mkdir -p /tmp/greet && cd /tmp/greet && printf '#!/usr/bin/env node\\nconsole.log("hello")\\n' >greet.js && echo '{"name":"greet","version":"1.0.0","bin":"greet.js"}' >package.json && npm install --offline --global .`,
    );
    assert.equal(await sh("greet; su - -c greet; sudo -i greet"), "hello\nhello\nhello");
  });

  test("the working directory and the home of every command are /home/app", async () => {
    assert.equal(await sh("pwd; echo $HOME; echo ~"), "/home/app\n/home/app\n/home/app");
    assert.equal(await sandbox.fs.realPath("."), "/home/app");
    assert.equal(await sandbox.deno.eval("Deno.cwd()"), "/home/app");
  });

  test("/app exists and takes directories", async () => {
    await sandbox.fs.mkdir("/app/project");
    assert.equal((await sandbox.fs.stat("/app/project")).isDirectory, true);
  });

  test("sudo asks for no password and changes nothing, whichever variables are set", async () => {
    assert.equal(
      await sh("KEPT=yes sudo sh -c 'id -u; pwd; echo $KEPT $HOME; command -v npx'"),
      "0\n/home/app\nyes /home/app\n/usr/local/bin/npx",
    );
  });

  test("an unprivileged user can be made and used", async () => {
    assert.equal(
      await sh("useradd -m tester && sudo -H -u tester sh -c 'id -un; touch ~/file && stat -c %U ~/file'"),
      "tester\ntester",
    );
    await assert.rejects(sh("sudo -u tester touch /etc/file"));
  });

  test("the locale is UTF-8, for the shell, Python and sorting", async () => {
    assert.equal(await sh("locale charmap"), "UTF-8");
    assert.equal(
      await sh(`python3 -c 'import sys; print(sys.stdout.encoding, "é".encode())'`),
      String.raw`utf-8 b'\xc3\xa9'`,
    );
  });

  test("the host name is the id, and it and localhost resolve to the sandbox", async () => {
    const hostname = sandbox.id.replaceAll("_", "-");
    assert.equal(await sh("hostname; cat /etc/hostname"), `${hostname}\n${hostname}`);
    assert.equal(await sh("getent ahostsv4 localhost | head -1 | cut -d' ' -f1"), "127.0.0.1");
    assert.equal(await sh("getent hosts $(hostname) | cut -d' ' -f1"), await sh("hostname -I"));
  });

  test("root can add names to /etc/hosts and choose its own name servers, and the next sandbox knows nothing of it", async () => {
    await sh("cp /etc/hosts /tmp/hosts && echo '192.0.2.7 elsewhere.example' >>/etc/hosts");
    assert.equal(await sh("getent hosts elsewhere.example | cut -d' ' -f1"), "192.0.2.7");
    await sh(
      "cp /etc/resolv.conf /tmp/resolv.conf && echo 'options ndots:2' >>/etc/resolv.conf && grep -q ndots:2 /etc/resolv.conf",
    );
    await using other = await Sandbox.create();
    assert.equal(
      (await other.sh`cat /etc/hosts /etc/resolv.conf | grep -c -E "elsewhere|ndots:2" || true`.text()).trim(),
      "0",
    );
    await sh("cat /tmp/hosts >/etc/hosts; cat /tmp/resolv.conf >/etc/resolv.conf");
    await assert.rejects(sh("sudo -u nobody sh -c 'echo x >>/etc/hosts'"), /Permission denied/);
  });

  test("the process limit is what ulimit shows, and what cannot be passed", async () => {
    assert.equal(await sh("ulimit -Hu; ulimit -Su"), "700\n700");
  });

  test("root unpacks an archive whose owners have large ids, and they are the same in the next sandbox", async () => {
    const client = new Client();
    const volume = await client.volumes.create({ slug: "owners", region: "ord", capacity: "300MB" });
    {
      await using writer = await Sandbox.create({ volumes: { "/v": volume.id } });
      const script =
        "cd /tmp && touch file && tar --owner=:197609 --group=:1000620000 -cf a.tar file && tar -xf a.tar -C /v";
      await writer.sh`bash -c ${script}`;
      assert.equal(await writer.sh`stat -c %u:%g /v/file`.text(), "197609:1000620000\n");
    }
    {
      await using reader = await Sandbox.create({ volumes: { "/v": volume.id } });
      assert.equal(await reader.sh`stat -c %u:%g /v/file`.text(), "197609:1000620000\n");
      await assert.rejects(async () => reader.sh`setpriv --reuid 1000 --clear-groups rm -f /v/file`.stderr("null"));
    }
    await client.volumes.delete(volume.id);
  });

  test("files of Docker images that programs count on are there", async () => {
    assert.equal(
      await sh("echo out >/dev/stdout; echo err 2>/dev/null >/dev/stderr; readlink /dev/fd"),
      "out\n/proc/self/fd",
    );
    assert.equal(await sh("stat -c %a /run/lock; touch /var/lock/x && echo yes"), "1777\nyes");
    assert.equal(
      await sh("cat /proc/sys/kernel/ostype; date +%Z; TZ=Europe/Paris date +%Z | grep -c CE"),
      "Linux\nUTC\n1",
    );
    assert.equal(
      await sh("su -c 'id -un'; su nobody -s /bin/sh -c 'id -un'; sudo -u nobody id -un"),
      "root\nnobody\nnobody",
    );
    assert.match(await sh("ping -c1 -W5 localhost"), /1 received/);
  });

  test("temporary directories are open to everybody and sticky", async () => {
    assert.equal(await sh("stat -c %a /tmp /var/tmp /dev/shm"), "1777\n1777\n1777");
  });

  test("the host's own certificates are in the bundle that programs trust", async () => {
    const names = await readdir(HOST_CERTIFICATES).catch(() => []);
    const bundle = new Set((await sandbox.fs.readTextFile(BUNDLE)).match(CERTIFICATE)?.map(fingerprint));
    assert.ok(bundle.size > 100, `the bundle has ${bundle.size} certificates`);
    for (const name of names.filter((file) => file.endsWith(".crt"))) {
      const text = await readFile(join(HOST_CERTIFICATES, name), "utf8");
      for (const certificate of text.match(CERTIFICATE) ?? []) assert.ok(bundle.has(fingerprint(certificate)), name);
    }
  });

  suite("a certificate authority of the root", () => {
    const CLIENTS: Readonly<Record<string, string>> = {
      curl: "curl -sS https://localhost:8443/page",
      git: "git ls-remote https://localhost:8443/repository.git && echo the page",
      python: `python3 -c 'import urllib.request as r; print(r.urlopen("https://localhost:8443/page").read().decode())'`,
      node: `node -e 'fetch("https://localhost:8443/page").then((r) => r.text()).then(console.log, (e) => { console.error(e); process.exit(1); })'`,
      deno: `deno eval 'console.log(await (await fetch("https://localhost:8443/page")).text())'`,
    };

    before(async () => {
      await sh(MAKE_SERVER);
      await sandbox.fs.writeTextFile("/tmp/tls/serve.py", SERVE);
      await sandbox.spawn("python3", { args: ["serve.py"], cwd: "/tmp/tls", stdout: "null", stderr: "null" });
      await sh("curl -sSk --retry 50 --retry-connrefused --retry-delay 1 -o /dev/null https://localhost:8443/page");
    });

    for (const [name, command] of Object.entries(CLIENTS)) {
      test(`is unknown to ${name} before it is installed`, async () => {
        await assert.rejects(sh(command), /certificate|issuer|self.signed|UnknownIssuer|CERT/i);
      });
    }
    for (const [name, command] of Object.entries(CLIENTS)) {
      test(`is trusted by ${name} once it is installed`, async () => {
        await sh("cp /tmp/tls/ca.crt /usr/local/share/ca-certificates/test.crt && update-ca-certificates");
        assert.equal(await sh(command), "the page");
      });
    }
  });
});

function toolSection(text: string): string {
  const section = text.split(/^## /m).find((part) => part.startsWith("Tools"));
  assert.ok(section !== undefined);
  return section;
}

const CERTIFICATE = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g;

function fingerprint(text: string): string {
  return new X509Certificate(text).fingerprint256;
}
