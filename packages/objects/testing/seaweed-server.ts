import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { CreateBucketCommand, S3Client } from "@aws-sdk/client-s3";
import { endChild, testTimeoutMs } from "@caisson/linux/testing";

const START_TIMEOUT_MS = testTimeoutMs(60_000);
const ATTEMPTS = 3;
/** Where `scripts/setup.sh tests` has installed it. */
const PROGRAM = join(process.env.CAISSON_CACHE ?? "/var/cache/caisson", "seaweedfs-4.48/bin/weed");
/** In its directory. */
const LOG = "log";

/** An S3 service of its own: SeaweedFS in one process, in a new directory, which checks signatures. */
export class SeaweedServer implements AsyncDisposable {
  readonly endpoint: string;
  readonly bucket = "snapshots";
  readonly accessKey = "test-access";
  readonly secretKey = "test-secret";
  readonly #directory: string;
  readonly #process: ChildProcess;

  private constructor(endpoint: string, directory: string, child: ChildProcess) {
    this.endpoint = endpoint;
    this.#directory = directory;
    this.#process = child;
  }

  static async start(): Promise<SeaweedServer> {
    for (let attempt = 1; ; attempt += 1) {
      const server = await SeaweedServer.#spawn();
      try {
        await server.#makeBucket();
        return server;
      } catch (error) {
        const hasEnded = !server.#isRunning;
        const text = await readFile(join(server.#directory, LOG), "utf8").catch(() => "");
        await server[Symbol.asyncDispose]();
        // Since its ports were found free, another program may have taken one of them: then it ends at once.
        if (!hasEnded || attempt === ATTEMPTS)
          throw new Error(`SeaweedFS did not start:\n${text.slice(-4000)}`, { cause: error });
      }
    }
  }

  static async #spawn(): Promise<SeaweedServer> {
    const directory = await mkdtemp(join(tmpdir(), "caisson-seaweed-"));
    const ports = await freePorts(8);
    const [s3, s3Grpc, master, masterGrpc, volume, volumeGrpc, filer, filerGrpc] = ports;
    const settings = "s3.json";
    await writeFile(
      join(directory, settings),
      JSON.stringify({
        identities: [
          {
            name: "test",
            credentials: [{ accessKey: "test-access", secretKey: "test-secret" }],
            actions: ["Admin", "Read", "Write", "List"],
          },
        ],
      }),
    );
    const options = {
      dir: "/tmp",
      ip: "127.0.0.1",
      "ip.bind": "127.0.0.1",
      "master.port": master,
      "master.port.grpc": masterGrpc,
      "master.telemetry": false,
      "master.volumeSizeLimitMB": 64,
      "volume.port": volume,
      "volume.port.grpc": volumeGrpc,
      "volume.max": 20,
      "filer.port": filer,
      "filer.port.grpc": filerGrpc,
      s3: true,
      "s3.port": s3,
      "s3.port.grpc": s3Grpc,
      // What is not needed has ports of its own by default, which two at a time would both want.
      "s3.port.iceberg": 0,
      "s3.port.lance": 0,
      "s3.iam": false,
      "s3.config": `/tmp/${settings}`,
    };
    const values = Object.entries(options).map(([name, value]) => `-${name}=${value}`);
    // It makes sockets in /tmp whatever its settings say, and leaves them there: its /tmp is its directory, which goes with it.
    const program = ["sh", "-c", `mount --bind . /tmp && exec "$0" "$@" >${LOG} 2>&1`, PROGRAM, "server", ...values];
    const child = spawn("setpriv", ["--pdeathsig=KILL", "unshare", "--mount", ...program], {
      stdio: "ignore",
      cwd: directory,
      env: { ...process.env, HOME: "/tmp", TMPDIR: "/tmp" },
    });
    return new SeaweedServer(`http://127.0.0.1:${s3}`, directory, child);
  }

  /** What a client in another process needs to be let in. */
  get env(): Readonly<Record<string, string>> {
    return { AWS_ACCESS_KEY_ID: this.accessKey, AWS_SECRET_ACCESS_KEY: this.secretKey };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await endChild(this.#process, "SIGKILL");
    await rm(this.#directory, { recursive: true, force: true });
  }

  get #isRunning(): boolean {
    return this.#process.exitCode === null && this.#process.signalCode === null;
  }

  /** Waits until it takes requests. */
  async #makeBucket(): Promise<void> {
    const client = new S3Client({
      endpoint: this.endpoint,
      region: "us-east-1",
      forcePathStyle: true,
      maxAttempts: 1,
      credentials: { accessKeyId: this.accessKey, secretAccessKey: this.secretKey },
    });
    try {
      for (const startedMs = performance.now(); ; ) {
        try {
          await client.send(new CreateBucketCommand({ Bucket: this.bucket }));
          return;
        } catch (error) {
          if (error instanceof Error && error.name === "BucketAlreadyOwnedByYou") return;
          if (performance.now() - startedMs > START_TIMEOUT_MS || !this.#isRunning) throw error;
          await delay(100);
        }
      }
    } finally {
      client.destroy();
    }
  }
}

async function freePorts(count: number): Promise<readonly number[]> {
  const servers = await Promise.all(
    Array.from({ length: count }, async () => {
      const server = createServer().listen(0, "127.0.0.1");
      await once(server, "listening");
      return server;
    }),
  );
  return Promise.all(
    servers.map(async (server) => {
      const address = server.address();
      server.close();
      await once(server, "close");
      return typeof address === "object" && address !== null ? address.port : 0;
    }),
  );
}
