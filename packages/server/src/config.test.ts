import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, suite, test } from "node:test";
import { CaissonError } from "@caisson/model";
import { loadConfig } from "./config.ts";

suite("configuration", () => {
  let directory: string;
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), "caisson-config-"));
  });
  afterEach(() => rm(directory, { recursive: true }));

  const load = async (text: string, overrides = {}) => {
    await writeFile(join(directory, "caisson.toml"), text);
    return loadConfig({ dataDirectory: directory, ...overrides }, {});
  };

  test("without a file every setting has its default", () => {
    const config = loadConfig({ dataDirectory: directory }, {});
    assert.equal(`${config.listenHost}:${config.listenPort}`, "127.0.0.1:8484");
    assert.equal(config.volumes.retentionMs, 24 * 3_600_000);
    assert.deepEqual([config.volumes.minCapacityBytes, config.volumes.maxCapacityBytes], [300e6, 20e9]);
  });

  test("the documented example sets every setting to its default", async () => {
    const example = await readFile(join(import.meta.dirname, "../../../caisson.example.toml"), "utf8");
    const enabled = example.replaceAll(/^# (?=[a-z_]+ = )/gm, "");
    assert.deepEqual(await load(enabled), {
      ...loadConfig({ dataDirectory: "/nowhere" }, {}),
      dataDirectory: directory,
      configPath: join(directory, "caisson.toml"),
    });
    assert.deepEqual(await load(example), {
      ...loadConfig({ dataDirectory: "/nowhere" }, {}),
      dataDirectory: directory,
      configPath: join(directory, "caisson.toml"),
    });
  });

  test("further disks of the pool are absolute directories, each once, with a size of their own", async () => {
    const disks = async (text: string) => (await load(text)).pool.disks;
    assert.deepEqual(
      await disks('[[pool.disks]]\ndirectory = "/mnt/a/"\nsize = "1GB"\n[[pool.disks]]\ndirectory = "/b"\n'),
      [
        { directory: "/mnt/a", sizeBytes: 1e9 },
        { directory: "/b", sizeBytes: null },
      ],
    );
    await assert.rejects(disks('[[pool.disks]]\ndirectory = "mnt"\n'), /give an absolute path/);
    const twice = '[[pool.disks]]\ndirectory = "/b"\n[[pool.disks]]\ndirectory = "/b/"\n';
    await assert.rejects(disks(twice), /names \/b twice/);
  });

  test("a replicated pool is an absolute directory of its own, and volumes are local unless the settings say otherwise", async () => {
    const replicated = async (text: string) => (await load(text)).pool.replicated;
    assert.equal(await replicated(""), null);
    assert.deepEqual(await replicated('[replicated]\ndirectory = "/mnt/far/"\nsize = "1GB"\n'), {
      directory: "/mnt/far",
      sizeBytes: 1e9,
    });
    await assert.rejects(replicated('[replicated]\ndirectory = "far"\n'), /replicated has .*give an absolute path/);
    await assert.rejects(replicated('[replicated]\nsize = "1GB"\n'), /replicated: give directory, .* or pool/);
    assert.deepEqual(await replicated('[replicated]\npool = "volumes"\n'), {
      ...{ conf: "/etc/ceph/ceph.conf", user: "caisson", pool: "volumes" },
    });
    assert.deepEqual(await replicated('[replicated]\npool = "volumes"\nnamespace = "ord"\n'), {
      ...{ conf: "/etc/ceph/ceph.conf", user: "caisson", pool: "volumes", namespace: "ord" },
    });
    for (const name of ["", "a/b", "a b"])
      await assert.rejects(
        replicated(`[replicated]\npool = "a"\nnamespace = ${JSON.stringify(name)}\n`),
        /replicated\.namespace/,
      );
    await assert.rejects(replicated('[replicated]\nnamespace = "a"\n'), /replicated\.pool is missing/);
    await assert.rejects(replicated('[replicated]\ndirectory = "/a"\nnamespace = "a"\n'), /replicated: give directory/);
    await assert.rejects(replicated('[replicated]\nuser = "a"\n'), /replicated\.pool is missing/);
    await assert.rejects(replicated('[replicated]\npool = "a"\ndirectory = "/b"\n'), /replicated: give directory/);
    await assert.rejects(
      replicated('[replicated]\npool = "a"\nconf = "ceph.conf"\n'),
      /replicated\.conf is "ceph\.conf": give an absolute path/,
    );
    await assert.rejects(replicated('[replicated]\npool = "a b"\n'), /replicated\.pool/);
    const both = '[replicated]\ndirectory = "/b"\n[[pool.disks]]\ndirectory = "/b/"\n';
    await assert.rejects(replicated(both), /replicated and pool\.disks both name \/b/);
    assert.equal((await load("")).volumes.defaultClass, "local");
    assert.equal((await load('[volumes]\ndefault_class = "replicated"\n')).volumes.defaultClass, "replicated");
    await assert.rejects(load('[volumes]\ndefault_class = "far"\n'), /volumes\.default_class/);
  });

  test("disks are limited by bandwidth, by operations, or by both", async () => {
    const limits = async (text: string) => (await load(`[sandboxes]\n${text}`)).sandboxes.diskLimits;
    assert.deepEqual(await limits('disk_bandwidth = "200MB"'), { bytesPerSecond: 200e6 });
    assert.deepEqual(await limits("disk_operations = 5000"), { operationsPerSecond: 5000 });
    assert.deepEqual(await limits("disk_operations = 100\ndisk_bandwidth = 1000000"), {
      bytesPerSecond: 1e6,
      operationsPerSecond: 100,
    });
    await assert.rejects(limits('disk_bandwidth = "999kB"'), /at least 1MB/);
    await assert.rejects(limits("disk_operations = 99"), /disk_operations/);
  });

  test("SSH clients are told the address that is listened on, or the one in the settings, and it can be switched off", async () => {
    const ssh = async (text: string) => (await load(text)).ssh;
    assert.deepEqual(await ssh(""), {
      listenHost: "127.0.0.1",
      listenPort: 2222,
      isPortFree: true,
      hostname: "127.0.0.1",
      publicPort: null,
      connectionsPerSandbox: 32,
    });
    assert.equal((await ssh('public_url = "https://a.test"\n[ssh]\nlisten = "0.0.0.0:22"'))?.hostname, "a.test");
    assert.equal((await ssh('[ssh]\nlisten = "[::]:22"\nhostname = "b.test"'))?.hostname, "b.test");
    assert.equal(await ssh("[ssh]\nenabled = false"), null);
  });

  test("the command line wins over the file, and IPv6 addresses are understood", async () => {
    const config = await load('listen = "127.0.0.1:1"', { listen: "[::1]:9000" });
    assert.deepEqual([config.listenHost, config.listenPort], ["::1", 9000]);
  });

  test("a mistyped setting, a wrong type and a broken file are refused with the setting's name", async () => {
    const refused = async (text: string, pattern: RegExp) =>
      assert.rejects(
        load(text),
        (error) => error instanceof CaissonError && error.code === "INVALID_CONFIG" && pattern.test(error.message),
        text,
      );
    await refused(
      "# ours\n[volumes]\nretention_hour = 3",
      /caisson\.toml, line 3: there is no setting "volumes\.retention_hour"\. Did you mean "volumes\.retention_hours"\?/,
    );
    await refused("[sandboxes]\npids = 64\ncpu = 2", /line 3: .*"sandboxes\.cpu"\. Did you mean "sandboxes\.cpus"\?/);
    await refused("cpus = 2", /line 1: .*"cpus"\. Did you mean "sandboxes\.cpus"\?/);
    await refused("[sandbox]\ncpus = 2", /line 1: .*"sandbox"\. Did you mean "sandboxes"\?/);
    await refused(
      '[[pool.disks]]\ndirectry = "/a"',
      /line 2: there is no setting "pool\.disks\.directry"\. Did you mean "pool\.disks\.directory"\?/,
    );
    await refused(
      '[[pool.disks]]\ndirectory = "/a"\n[[pool.disks]]\ndirectory = 2',
      /line 4: "pool\.disks\.directory" must be string/,
    );
    await refused('[[pool.disks]]\nsize = "1GB"', /line 1: "pool\.disks" needs directory/);
    await refused('[[pool.disk]]\ndirectory = "/a"', /line 1: .*"pool\.disk"\. Did you mean "pool\.disks"\?/);
    await refused(
      '[pool.disks]\ndirectory = "/a"',
      /line 1: "pool\.disks" is a list: write \[\[pool\.disks\]\] above each item/,
    );
    await refused('[expose]\nlisten = "443"', /Cannot listen on "443" for previews \(expose\.listen\): give HOST:PORT/);
    await refused('[ssh]\nlisten = "22"', /Cannot listen on "22" for SSH \(ssh\.listen\): give HOST:PORT/);
    await refused('[ssh]\nlisten = "0.0.0.0:22"', /ssh\.hostname is missing/);
    await refused('[ssh]\nhostname = "a.test:22"', /ssh\.hostname is "a\.test:22": give a host name/);
    await refused("[ssh]\nenable = false", /Did you mean "ssh\.enabled"\?/);
    await refused("colour = 2", /no setting "colour" \(caisson\.example/);
    await refused('[sandboxes]\nscratch = "10 bananas"', /sandboxes\.scratch: Invalid size "10 bananas"/);
    await refused("[volumes]\nretention_hours = -1", /line 2: "volumes\.retention_hours" must be >= 0/);
    await refused('[volumes]\nmin_capacity = "30GB"', /volumes\.min_capacity \(.* is above volumes\.max_capacity/);
    await refused('regions = ["Ord"]', /regions/);
    await refused('[network]\nname_servers = ["resolver"]', /network\.name_servers/);
    await refused(
      '[network]\nsubnet = "10.99.0.0/25"',
      /network\.subnet is "10\.99\.0\.0\/25": give the first address/,
    );
    await refused("listen = 8484", /listen/);
    await refused('public_url = "example.com"', /public_url is "example\.com": give an origin/);
    await refused('public_url = "https://example.com/path"', /public_url/);
    await refused('[tls]\ncert = "/a"', /tls\.key is missing/);
    await refused('[tls]\ncert = "/a"\nkey = "/b"', /need public_url/);
    await refused('public_url = "http://a.test"\n[tls]\ncert = "/a"\nkey = "/b"', /need public_url.*https/);
    for (const text of ["10.0.0", "10.0.0.0/33", "10.0.0.0/", "proxy", "::1/129"])
      await refused(`trusted_proxies = ["${text}"]`, /trusted_proxies holds/);
    await refused('listen = "localhost"', /HOST:PORT/);
    await refused("listen = ", /caisson\.toml, line 1, column 10: invalid value\. Correct that line/);
    await assert.rejects(load("# ours\ndatabase = 'postgres://me:secret@a/b"), (error: Error) => {
      assert.match(error.message, /caisson\.toml, line 2, column \d+: /);
      return !error.message.includes("secret");
    });
    await assert.rejects(async () => loadConfig({ configPath: join(directory, "absent.toml") }, {}), /Cannot read/);
    execFileSync("mkfifo", [join(directory, "fifo")]);
    for (const configPath of [join(directory, "fifo"), directory, "/dev/zero"])
      assert.throws(() => loadConfig({ configPath }, {}), /Cannot read .*: it is not a file/);
    for (const overrides of [{ dataDirectory: "" }, { configPath: "" }])
      assert.throws(() => loadConfig(overrides, {}), {
        code: "INVALID_CONFIG",
        message: /^--(data|config) is empty: give a path/,
      });
  });

  test("of several wrong settings each is named, in the order of the lines", async () => {
    await assert.rejects(
      load('colour = 2\n[sandboxes]\ncpu = 2\npids = 1\n[[pool.disks]]\ndirectry = "/a"\nsize = 1\n'),
      (error: Error) => {
        assert.deepEqual(error.message.split("\n").slice(1), [
          '  line 1: there is no setting "colour"',
          '  line 3: there is no setting "sandboxes.cpu". Did you mean "sandboxes.cpus"?',
          '  line 4: "sandboxes.pids" must be >= 64',
          '  line 6: there is no setting "pool.disks.directry". Did you mean "pool.disks.directory"?',
          "(caisson.example.toml shows every setting)",
        ]);
        return true;
      },
    );
    await assert.rejects(load('log_level = "loud"\n'), {
      message: /, line 1: "log_level" must be "trace" or "debug" or "info" or "warn" or "error" \(/,
    });
    await assert.rejects(load("[volumes]\ndefault_class = 1\n"), {
      message: /, line 2: "volumes.default_class" must be "local" or "replicated" \(/,
    });
    await assert.rejects(load('listen = "a"\npublic_url = "b"\n[sandboxes]\nscratch = "1 banana"\n'), {
      code: "INVALID_CONFIG",
      message:
        /^The settings have 3 problems:\n {2}Cannot listen on "a".*\n {2}public_url is "b".*\n {2}The setting sandboxes\.scratch.*$/,
    });
  });
});
