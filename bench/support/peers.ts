import { spawn } from "node:child_process";
import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { LoopDevice, openFile, runTool } from "@caisson/linux";
import { mountVolume, unmountVolume } from "@caisson/storage";

/** Other programs that run `true` in a container. */
export interface Peers extends AsyncDisposable {
  readonly crun: () => Promise<void>;
  readonly podman: () => Promise<void>;
}

/** The same root for the peers: the built-in image, mounted read-only with an overlay. */
export async function openPeers(base: string): Promise<Peers> {
  const [image] = (await readdir(`${process.env.CAISSON_CACHE ?? "/var/cache/caisson"}/images`)).filter((name) =>
    name.endsWith(".ext4"),
  );
  const [lower, upper, work, root, data] = ["lower", "upper", "work", "rootfs", "data"].map((name) =>
    join(base, name),
  ) as [string, string, string, string, string];
  for (const path of [lower, upper, work, root, data]) await mkdir(path);
  await using file = await openFile(`${process.env.CAISSON_CACHE ?? "/var/cache/caisson"}/images/${image}`, "r");
  const device = await LoopDevice.attach(file, { isReadOnly: true });
  await mountVolume({ device: device.path, target: lower, kind: "root", isReadOnly: true });
  await runTool("mount", [
    "-t",
    "overlay",
    "overlay",
    "-o",
    `lowerdir=${lower},upperdir=${upper},workdir=${work}`,
    root,
  ]);
  await runTool("crun", ["spec"], { workingDirectory: base });
  const config = JSON.parse(await readFile(join(base, "config.json"), "utf8"));
  config.process.terminal = false;
  config.process.args = ["true"];
  config.process.rlimits = [];
  config.root = { path: root };
  await writeFile(join(base, "config.json"), JSON.stringify(config));
  let count = 0;
  const quietly = (command: string, args: readonly string[]) =>
    new Promise<void>((resolve, reject) => {
      const child = spawn(command, args, { stdio: ["ignore", "ignore", "pipe"], cwd: base });
      let text = "";
      child.stderr.on("data", (chunk) => (text += chunk));
      child.once("error", reject);
      child.once("exit", (code) =>
        code === 0 ? resolve() : reject(new Error(`${command} ${args.join(" ")}: ${code} ${text}`)),
      );
    });
  const podmanArgs = [
    "--root",
    join(base, "podman"),
    "--runroot",
    join(base, "podman-run"),
    "run",
    "--rm",
    "--network=none",
    "--ulimit",
    "nofile=1024:1024",
    "--ulimit",
    "nproc=1000:1000",
    "--cgroups=disabled",
    "-v",
    `${data}:/data`,
    "--rootfs",
    root,
    "true",
  ];
  return {
    crun() {
      count += 1;
      return quietly("crun", ["run", `bench-${count}`]);
    },
    podman: () => quietly("podman", podmanArgs),
    async [Symbol.asyncDispose]() {
      await runTool("umount", [root]);
      await unmountVolume(lower);
      await device.detach();
    },
  };
}
