import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { once } from "node:events";
import { chmod, mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { normalize } from "./support/normalize.ts";
import { CAISSON, finish, runCaisson, startCaisson } from "./support/run-caisson.ts";
import { TestServer } from "./support/test-server.ts";

const SERVER = fileURLToPath(import.meta.resolve("../../server/src/main.ts"));
const DEADLINE_MS = 30_000;
const run = promisify(execFile);

let directory: string;
before(async () => {
  directory = await mkdtemp(join(tmpdir(), "caisson-cli-local-"));
  await chmod(directory, 0o711);
});
after(() => rm(directory, { recursive: true, force: true }));

const QUICKSTART = `✓ check this host
✓ make the image builtin:debian-13, or find it in the cache
✓ start a server in a directory of its own
✓ create a volume of 1 GB: quickstart-dataset
✓ create a sandbox with the volume at /data/dataset
✓ write hello.txt to it
✓ end the sandbox: the volume is durable and free
✓ create a second sandbox with the volume, by its id
✓ read hello.txt there
✓ end the second sandbox
✓ stop the server and remove its data

Persist me!

STEP  TIME
check this host  N
make the image builtin:debian-13, or find it in the cache  N
start a server in a directory of its own  N
create a volume of 1 GB: quickstart-dataset  N
create a sandbox with the volume at /data/dataset  N
write hello.txt to it  N
end the sandbox: the volume is durable and free  N
create a second sandbox with the volume, by its id  N
read hello.txt there  N
end the second sandbox  N
stop the server and remove its data  N

Next, run a server of your own:

  caisson up                          in one shell
  eval "$(caisson env)"               in another; official clients need no more
  caisson create                      a sandbox and a terminal in it
  caisson --help                      everything else
`;

test("quickstart shows a file that outlives its sandbox, and leaves nothing behind", async () => {
  const temporary = await mkdtemp(join(directory, "t-"));
  await chmod(temporary, 0o711);
  const { stdout, stderr, code } = await runCaisson(["quickstart"], { HOME: directory, TMPDIR: temporary });
  assert.deepEqual({ stderr, code }, { stderr: "", code: 0 });
  const table = (line: string) =>
    line.replace(/ {2,}(TIME|[\d.]+ m?s)$/, (_all, end: string) => `  ${end === "TIME" ? end : "N"}`);
  // The last lines say how to get there what is not on the PATH.
  const [shown = ""] = stdout.split("\n\n`caisson` is not on your PATH");
  assert.equal(`${shown.trimEnd().split("\n").map(table).join("\n")}\n`, QUICKSTART);
  await assertNothingLeft(temporary);
});

test("quickstart that is interrupted stops its server and removes its data", async () => {
  const temporary = await mkdtemp(join(directory, "t-"));
  await chmod(temporary, 0o711);
  const child = startCaisson(["quickstart"], { HOME: directory, TMPDIR: temporary });
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    if (text.includes("start a server")) child.kill("SIGINT");
  });
  const { stdout, code } = await finish(child);
  assert.equal(code, 130);
  assert.match(stdout, /✓ stop the server and remove its data\n$/);
  await assertNothingLeft(temporary);
});

test("quickstart that is killed takes its server with it", async () => {
  const temporary = await mkdtemp(join(directory, "t-"));
  await chmod(temporary, 0o711);
  const child = startCaisson(["quickstart"], { HOME: directory, TMPDIR: temporary });
  for await (const text of child.stdout) if (String(text).includes("start a server")) break;
  child.kill("SIGKILL");
  await until(async () => !(await isMentioned(temporary)));
});

test("doctor prints a line for each thing it looked at, and all of them as JSON", async () => {
  const { stdout, code } = await runCaisson(["doctor", "--json", "--data", directory], {});
  const { items } = JSON.parse(stdout);
  const missing = items.filter(({ status }: { status: string }) => status === "missing");
  assert.equal(code, missing.length === 0 ? 0 : 1);
  const text = await runCaisson(["doctor", "--data", directory], {});
  const names = text.stdout.split("\n").filter((line) => /^(ok|warning|missing)/.test(line));
  assert.equal(names.length, items.length);
  assert.match(text.stdout, /^ok {7}OCI runtime +crun /m);
});

test("env tells an absent server from one that does not answer", async () => {
  const absent = join(directory, "absent");
  assert.deepEqual(await runCaisson(["env", "--data", absent], {}), {
    stdout: "",
    stderr:
      `error: There is no server data in ${absent}: ${absent}/credentials.json does not exist\n` +
      "hint: Start a server with `caisson up`, or name its directory with --data.\n",
    code: 4,
  });
  const credentials = { organization: "default", token: "ddo_x", endpoint: "http://127.0.0.1:1" };
  await writeFile(join(directory, "credentials.json"), JSON.stringify(credentials));
  const { stdout, stderr, code } = await runCaisson(["env", "--data", directory], {});
  assert.deepEqual({ stdout, code }, { stdout: "", code: 6 });
  assert.match(
    stderr,
    /^error: The server does not answer at http:\/\/127\.0\.0\.1:1: .+\nhint: Start it in another shell: caisson up\n$/,
  );
});

test("up, env and switch: a server, its credentials for the shell, and saved ones", async () => {
  await using server = await TestServer.start();
  assert.equal(server.readyLine, `Caisson is ready at ${server.endpoint} (region ord; data in ${server.data})`);
  const env = await runCaisson(["env", "--data", server.data], {});
  assert.equal(
    normalize(env.stdout).replaceAll(server.endpoint, "URL").replaceAll(server.data, "DATA"),
    `export DENO_DEPLOY_TOKEN='ddo_x'
export DENO_DEPLOY_ENDPOINT='URL'
export DENO_SANDBOX_ENDPOINT='URL'
export CAISSON_TOKEN='ddo_x'
export CAISSON_ENDPOINT='URL'
export NODE_EXTRA_CA_CERTS='DATA/previews/authority.pem'
export DENO_CERT='DATA/previews/authority.pem'
export SSL_CERT_FILE='DATA/previews/trust.pem'
export CURL_CA_BUNDLE='DATA/previews/trust.pem'
export REQUESTS_CA_BUNDLE='DATA/previews/trust.pem'
`,
  );
  const behindProxy = await runCaisson(["env", "--data", server.data], { NODE_EXTRA_CA_CERTS: "/etc/proxy.pem" });
  assert.match(behindProxy.stdout, /^export NODE_EXTRA_CA_CERTS='.+\/previews\/trust\.pem'$/m);
  assert.match(env.stderr, /^Previews: a browser trusts them when you import \S+authority\.pem/);
  const words = CAISSON.map((word) => `'${word}'`).join(" ");
  const { stdout } = await run("sh", [
    "-c",
    `eval "$(${words} env --data '${server.data}')"; ${words} orgs list --quiet`,
  ]);
  assert.equal(normalize(stdout), "org_xxxxxxxxxxxxxxxxxxxx\n");

  const home = { HOME: directory };
  const config = join(directory, ".config", "caisson", "config.json");
  const switched = await runCaisson(["switch", "--data", server.data, "here"], home);
  assert.equal(switched.stdout, `Using here: ${server.endpoint}, organization default\n`);
  assert.equal((await stat(config)).mode & 0o777, 0o600);
  assert.equal(normalize((await runCaisson(["orgs", "list", "-q"], home)).stdout), "org_xxxxxxxxxxxxxxxxxxxx\n");
  assert.equal(
    (await runCaisson(["switch"], home)).stdout.replace(server.endpoint.padEnd(8), "URL").replace(/ +/g, " "),
    `   NAME ENDPOINT ORGANIZATION
* here URL default
`.replace(/ +/g, " "),
  );
  const elsewhere = await runCaisson(["orgs", "list", "--endpoint", "http://127.0.0.1:1"], home);
  assert.equal(elsewhere.code, 3, "a saved token was sent to another server than its own");
  const mistyped = await runCaisson(["switch", "heer"], home);
  assert.deepEqual(mistyped, {
    stdout: "",
    stderr: 'error: No server is saved as "heer"\nhint: Did you mean here?\n',
    code: 4,
  });
  await chmod(config, 0o644);
  assert.match(
    (await runCaisson(["orgs", "list", "-q"], home)).stderr,
    /^warning: others can read the tokens in .*chmod 600/,
  );
  assert.equal((await runCaisson(["switch", "here", "--forget"], home)).stdout, "Forgot here\n");
  assert.equal((await readFile(config, "utf8")).includes("ddo_"), false);
  assert.equal(await server.stop(), 0);
});

test("without a token the error says where to get one", async () => {
  assert.deepEqual(await runCaisson(["list"], { HOME: directory }), {
    stdout: "",
    stderr:
      "error: No access token is set\n" +
      'hint: For a server on this machine: eval "$(caisson env)". For another one: caisson switch NAME --endpoint URL --token TOKEN.\n',
    code: 3,
  });
  assert.deepEqual(
    JSON.parse((await runCaisson(["list", "-j"], { HOME: directory })).stderr).error.code,
    "NOT_AUTHENTICATED",
  );
});

test("a server that cannot be reached is told from everything else by its exit code", async () => {
  const { stderr, code } = await runCaisson(["list"], {
    HOME: directory,
    CAISSON_ENDPOINT: "http://127.0.0.1:1",
    CAISSON_TOKEN: "ddo_x",
  });
  assert.equal(code, 6);
  assert.match(
    stderr,
    /^error: Cannot reach http:\/\/127\.0\.0\.1:1: .*\nhint: Start a server with `caisson up`, or check the endpoint\.\n$/,
  );
});

test("https to a server that speaks plain http says so, whoever finds it out", async () => {
  const plain = createServer((_request, response) => response.end()).listen(0, "127.0.0.1");
  await once(plain, "listening");
  const origin = `127.0.0.1:${(plain.address() as AddressInfo).port}`;
  const environment = { HOME: directory, CAISSON_ENDPOINT: `https://${origin}`, CAISSON_TOKEN: "ddo_x" };
  for (const words of [["list"], ["create"]]) {
    assert.deepEqual(await runCaisson(words, environment), {
      stdout: "",
      stderr:
        `error: Cannot reach https://${origin}: what answers there does not speak TLS\n` +
        `hint: Write the endpoint as http://${origin}\n`,
      code: 6,
    });
  }
  plain.close();
});

test("what is mistyped is recognised", async () => {
  const cases: readonly (readonly [words: readonly string[], stderr: string])[] = [
    [["lsit"], "error: Unknown command 'lsit'\nhint: Did you mean list?\n"],
    [["volumes", "creat"], "error: Unknown command 'creat'\nhint: Did you mean create?\n"],
    [["list", "--jsno"], "error: Unknown option '--jsno'\nhint: Did you mean --json?\n"],
    [
      ["volumes", "create", "x"],
      "error: Required option '--capacity <size>' not specified\nhint: Add --help to see how the command is used.\n",
    ],
    [
      ["create", "--volume", "data"],
      'error: Invalid --volume "data"\nhint: Write it as --volume NAME:/path, or NAME:/path:ro to mount it read-only. To boot from a volume: --root NAME.\n',
    ],
    [
      ["create", "--volume", "data:/"],
      'error: Invalid --volume "data:/"\nhint: Write it as --volume NAME:/path, or NAME:/path:ro to mount it read-only. To boot from a volume: --root NAME.\n',
    ],
    [
      ["completion", "tcsh"],
      "error: Command-argument value 'tcsh' is invalid for argument 'shell'. Allowed choices are bash, zsh, fish.\nhint: Add --help to see how the command is used.\n",
    ],
  ];
  for (const [words, stderr] of cases)
    assert.deepEqual(await runCaisson(words, { HOME: directory }), { stdout: "", stderr, code: 2 });
});

test("an empty place is refused, and does not mean the current directory", async () => {
  assert.deepEqual(await runCaisson(["up", "--data", ""], { HOME: directory }), {
    stdout: "",
    stderr: "error: Option '--data' is empty\nhint: Say where it is, or check the variable that you gave.\n",
    code: 2,
  });
  const { buildProgram } = await import("../src/program.ts");
  const cases: readonly (readonly [name: string, ...words: string[]])[] = [
    ["Option '--config'", "up", "--config", ""],
    ["Option '--listen'", "up", "--listen", ""],
    ["Option '--address'", "up", "--role", "node", "--address", ""],
    ["Option '--data'", "doctor", "--data", ""],
    ["Option '--data'", "database", "migrate", "--data", ""],
    ["Option '--data'", "keys", "export", "--data", ""],
    ["Option '--data'", "env", "--data", ""],
    ["Option '--data'", "switch", "--data", ""],
    ["Option '--directory'", "link", "--directory", ""],
    ["Option '--config'", "--config", "", "list"],
    ["Option '--config'", "list", "--config="],
    ["Option '--copy'", "create", "--copy", "x", "--copy", ""],
    ["Argument 'paths'", "copy", "", "sbx_ord_x:/"],
    ["Argument 'file'", "snapshots", "import", "", "--slug", "x"],
    ["Argument 'file'", "snapshots", "export", "x", ""],
    ["Argument 'file'", "ssh-keys", "add", ""],
  ];
  for (const [name, ...words] of cases) {
    const parsed = buildProgram().parseAsync(words, { from: "user" });
    await assert.rejects(parsed, { code: "USAGE", message: `${name} is empty` }, words.join(" "));
  }
});

test("settings that the server cannot use are a usage error", async () => {
  const serve = (...words: string[]) =>
    run(process.execPath, [SERVER, "serve", "--data", join(directory, "unused"), ...words]).then(
      () => null,
      ({ code, stderr }: { readonly code: number; readonly stderr: string }) => ({ code, stderr }),
    );
  for (const [pattern, ...words] of [
    [/^caisson: .*nope/, "--listen", "nope"],
    [/^caisson: .*99999/, "--listen", "127.0.0.1:99999"],
    [/^caisson: Cannot read .*\/nonexistent/, "--config", "/nonexistent"],
    [/^caisson: --data is empty/, "--data", ""],
    [/^caisson: That is no token for joining/, "--role", "node", "--join", "bad"],
    [/^caisson: The address "a b" is none/, "--role", "node", "--address", "a b"],
  ] as const) {
    const refused = await serve(...words);
    assert.equal(refused?.code, 2, JSON.stringify(refused));
    assert.match(refused.stderr, pattern);
  }
  assert.ok(!(await readdir(directory)).includes("unused"), "nothing was made");
});

test("deploy says that it is not there yet, whatever follows it", async () => {
  assert.deepEqual(await runCaisson(["deploy", "sbx", "app", "--prod"], {}), {
    stdout: "",
    stderr:
      "error: `caisson deploy` is not there yet\nhint: To keep what a sandbox made, write it to a volume: caisson create --volume NAME:/data\n",
    code: 1,
  });
});

test("every command has help with an example", async () => {
  const { buildProgram } = await import("../src/program.ts");
  const { walkCommands } = await import("./support/walk-commands.ts");
  for (const { path, command } of walkCommands(buildProgram())) {
    let help = "";
    command.configureOutput({
      writeOut: (text) => {
        help += text;
      },
      writeErr: (text) => {
        help += text;
      },
    });
    command.outputHelp();
    const isGroup = command.commands.length > 0;
    const isOffered = !command.description().startsWith("Not offered");
    if (!isGroup && isOffered) assert.match(help, /\nExamples:\n {2}# .+\n.*caisson/, path);
    if (isGroup) assert.match(help, /\n {2}help +Show help for a command\n/, path);
    assert.ok(command.description() !== "", path);
  }
});

async function assertNothingLeft(temporary: string): Promise<void> {
  assert.deepEqual(await readdir(temporary), []);
  assert.equal(await isMentioned(temporary), false);
}

/** Whether a process of this host still names the directory. */
async function isMentioned(path: string): Promise<boolean> {
  for (const name of await readdir("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    const text = await readFile(`/proc/${name}/cmdline`, "utf8").catch(() => "");
    if (text.includes(path)) return true;
  }
  return false;
}

async function until(condition: () => Promise<boolean>): Promise<void> {
  const deadline = Date.now() + DEADLINE_MS;
  while (!(await condition())) {
    assert.ok(Date.now() < deadline, "the condition was not met in time");
    await delay(20);
  }
}
