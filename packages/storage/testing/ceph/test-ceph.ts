import { type ChildProcess, spawn } from "node:child_process";
import { randomInt, randomUUID } from "node:crypto";
import { mkdir, mkdtemp, open, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { runTool } from "@caisson/linux";
import { assertNoLeaks, endChild, testTimeoutMs } from "@caisson/linux/testing";

export interface TestCephOptions {
  /** `memstore`, the default, keeps all in memory; `bluestore` in a file in the temporary directory, as OSDs of clusters do on disks. */
  readonly store?: "memstore" | "bluestore";
  /** Of the OSD. Default: 1 GiB. */
  readonly sizeBytes?: number;
}

const BOOTSTRAP = fileURLToPath(new URL("./bootstrap.py", import.meta.url));
const READY_SECONDS = 90;
const USER = "caisson";

/**
 * A Ceph cluster of the test's own: one monitor, one manager (which tells how much room there is) and one OSD, on an address of the loopback network that no
 * other one has, with everything in a temporary directory. It takes about five seconds and 400 MB.
 */
export class TestCeph {
  readonly directory: string;
  readonly pool = "volumes";
  /** May use the pool's images, and nothing else. */
  readonly user = USER;
  readonly #daemons = new Map<string, ChildProcess>();

  private constructor(directory: string) {
    this.directory = directory;
  }

  static async start({ store = "memstore", sizeBytes = 2 ** 30 }: TestCephOptions = {}): Promise<TestCeph> {
    const ceph = new TestCeph(await mkdtemp(join(tmpdir(), "caisson-ceph-")));
    try {
      await ceph.#start(store, sizeBytes);
      return ceph;
    } catch (error) {
      const logs = await Promise.all(
        ["mon.a", "mgr.x", "osd.0"].map((name) =>
          readFile(join(ceph.directory, `${name}.out`), "utf8").catch(() => ""),
        ),
      );
      await ceph.stop();
      throw new Error(`The test's Ceph cluster does not start: ${logs.join("\n").slice(-4000)}`, { cause: error });
    }
  }

  get conf(): string {
    return join(this.directory, "ceph.conf");
  }

  /** Runs a command of `ceph` as its administrator. */
  command(...args: readonly string[]): Promise<string> {
    return runTool("ceph", ["--conf", this.conf, "--connect-timeout", "20", ...args]);
  }

  /** Stops the processes of the cluster, as they are. */
  async freeze(): Promise<void> {
    for (const { pid } of this.#daemons.values()) if (pid !== undefined) await freezeProcess(pid);
  }

  thaw(): void {
    for (const daemon of this.#daemons.values()) daemon.kill("SIGCONT");
  }

  async stop(): Promise<void> {
    for (const daemon of this.#daemons.values()) await endChild(daemon, "SIGKILL");
    await rm(this.directory, { recursive: true });
    await assertNoLeaks({ directory: this.directory });
  }

  async #start(store: string, sizeBytes: number): Promise<void> {
    const fsid = randomUUID();
    const osdId = randomUUID();
    const monitor = `127.${randomInt(1, 255)}.${randomInt(1, 255)}.${randomInt(1, 255)}`;
    for (const name of ["mon.a", "mgr.x", "osd.0"]) await mkdir(join(this.directory, name));
    await writeFile(this.conf, configuration({ directory: this.directory, fsid, address: monitor, store, sizeBytes }));
    const keys = await this.#makeKeys();
    const map = join(this.directory, "monmap");
    await runTool("monmaptool", ["--create", "--clobber", "--fsid", fsid, "--addv", "a", `[v2:${monitor}:3300]`, map]);
    await this.#runOnce("ceph-mon", ["-i", "a", "--mkfs", "--monmap", map, "--keyring", keys]);
    await this.#startDaemon("mon.a", "ceph-mon", "a");
    const secret = (await runTool("ceph-authtool", ["--gen-print-key"])).trim();
    await this.#bootstrap("osd", osdId, secret);
    for (const path of ["osd.0.keyring", join("osd.0", "keyring")])
      await writeFile(join(this.directory, path), keyring("osd.0", secret), { mode: 0o600 });
    await this.#startDaemon("mgr.x", "ceph-mgr", "x");
    await this.#runOnce("ceph-osd", ["-i", "0", "--mkfs", "--osd-uuid", osdId]);
    await this.#startDaemon("osd.0", "ceph-osd", "0");
    await this.#bootstrap("pool", osdId, secret);
  }

  /** The monitor takes all keys when it is made, so that none has to be asked for. */
  async #makeKeys(): Promise<string> {
    const all = join(this.directory, "all.keyring");
    const caps: Readonly<Record<string, readonly string[]>> = {
      "mon.": ["mon", "allow *"],
      "client.admin": ["mon", "allow *", "osd", "allow *", "mgr", "allow *", "mds", "allow *"],
      [`client.${USER}`]: rbdCaps(this.pool),
      "mgr.x": ["mon", "allow profile mgr", "osd", "allow *", "mds", "allow *"],
    };
    await runTool("ceph-authtool", ["-C", all]);
    for (const [name, given] of Object.entries(caps)) {
      const pairs = Array.from({ length: given.length / 2 }, (_, index) => given.slice(2 * index, 2 * index + 2));
      await runTool("ceph-authtool", [all, "--gen-key", "-n", name, ...pairs.flatMap((pair) => ["--cap", ...pair])]);
      const secret = (await runTool("ceph-authtool", [all, "-p", "-n", name])).trim();
      await writeFile(join(this.directory, `${name}.keyring`), keyring(name, secret), { mode: 0o600 });
    }
    await writeFile(join(this.directory, "mgr.x", "keyring"), await readFile(join(this.directory, "mgr.x.keyring")));
    return all;
  }

  async #bootstrap(part: string, osdId: string, secret: string): Promise<void> {
    const seconds = String(testTimeoutMs(READY_SECONDS * 1000) / 1000);
    await runTool("/usr/bin/python3", [BOOTSTRAP, part, this.conf, this.pool, osdId, secret, seconds]);
  }

  async #runOnce(program: string, args: readonly string[]): Promise<void> {
    await runTool(program, ["-c", this.conf, ...args]);
  }

  /** In the foreground, and gone with the test. */
  async #startDaemon(name: string, program: string, id: string): Promise<void> {
    await using output = await open(join(this.directory, `${name}.out`), "a");
    const child = spawn("setpriv", ["--pdeathsig", "KILL", "--", program, "-c", this.conf, "-i", id, "-f"], {
      stdio: ["ignore", output.fd, output.fd],
      // Debian 13 has the path to what OSDs load for RBD without its first slash.
      cwd: "/",
    });
    this.#daemons.set(name, child);
  }
}

/** Resolves when all threads stand still: on a busy machine the others go on until the one that the signal wakes has run. */
export async function freezeProcess(pid: number): Promise<void> {
  process.kill(pid, "SIGSTOP");
  const deadline = performance.now() + testTimeoutMs(60_000);
  while ((await threadStates(pid)).some((state) => state !== "T")) {
    if (performance.now() > deadline) throw new Error(`process ${pid} does not stop`);
    await delay(5);
  }
}

async function threadStates(pid: number): Promise<readonly string[]> {
  const stats = (await readdir(`/proc/${pid}/task`)).map((thread) =>
    // One that has ended meanwhile does nothing more.
    readFile(`/proc/${pid}/task/${thread}/stat`, "utf8").catch(() => ") T"),
  );
  return (await Promise.all(stats)).map((stat) => stat.charAt(stat.lastIndexOf(")") + 2));
}

export function rbdCaps(pool: string): readonly string[] {
  return ["mon", "profile rbd", "osd", `profile rbd pool=${pool}`, "mgr", `profile rbd pool=${pool}`];
}

function keyring(name: string, secret: string): string {
  return `[${name}]\n\tkey = ${secret}\n`;
}

function configuration(options: {
  readonly directory: string;
  readonly fsid: string;
  readonly address: string;
  readonly store: string;
  readonly sizeBytes: number;
}): string {
  const { directory, fsid, address, store, sizeBytes } = options;
  return `[global]
fsid = ${fsid}
mon_host = [v2:${address}:3300]
mon_initial_members = a
public_addr = ${address}
cluster_addr = ${address}
ms_bind_ipv6 = false
auth_cluster_required = cephx
auth_service_required = cephx
auth_client_required = cephx
auth_allow_insecure_global_id_reclaim = false
keyring = ${directory}/$name.keyring
run_dir = ${directory}
crash_dir = ${directory}
log_file = /dev/null
log_to_stderr = false
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 8
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
[client]
admin_socket =
[mon]
mon_data = ${directory}/$name
mon_cluster_log_file = ${directory}/cluster.log
mon_allow_pool_size_one = true
mon_allow_pool_delete = true
mon_warn_on_pool_no_redundancy = false
mon_data_avail_warn = 2
mon_data_avail_crit = 1
mon_clock_drift_allowed = 1
mon_tick_interval = 1
paxos_propose_interval = 0.01
paxos_min_wait = 0.005
admin_socket =
[mgr]
mgr_data = ${directory}/$name
mgr_initial_modules =
mgr_stats_period = 1
admin_socket =
[osd]
osd_data = ${directory}/$name
osd_objectstore = ${store}
osd_memory_target = 939524096
osd_mgr_report_interval = 1
mgr_stats_period = 1
bluestore_block_size = ${sizeBytes}
bluestore_block_create = true
bluestore_block_db_create = false
bluestore_block_wal_create = false
bluestore_cache_autotune = false
bluestore_cache_size = 134217728
memstore_device_bytes = ${sizeBytes}
osd_op_num_shards = 2
osd_op_num_threads_per_shard = 1
admin_socket =
`;
}
