import { chmod, chown, copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import {
  createCgroup,
  createNetworkSysfs,
  type HasDescriptor,
  holdNewNamespaces,
  type IdRange,
  joinCgroup,
  moveMount,
  openNamespace,
  readCgroups,
  removeCgroup,
  UndoStack,
  unmount,
} from "@caisson/linux";
import { idMappings } from "../network/namespaces.ts";
import { namespacePath, ociConfig } from "./config.ts";
import { killContainer } from "./container.ts";
import { ContainerProcess } from "./container-process.ts";
import { findOciRuntime } from "./find-oci-runtime.ts";
import { readSeccompProfile } from "./seccomp/seccomp.ts";

/** Just below the ids that sandboxes get (network/sandbox-network.ts). */
const IDS: IdRange = { firstHostId: 0x6fff0000, count: 65536 };
const TIMEOUT_MS = 20_000;
const PROGRAM = "/.caisson/tini";

/**
 * Starts one container in the way in which a sandbox is started: joining namespaces and a cgroup that are there, with the same mounts, filter
 * of system calls and capabilities. In it a static init tells its version and ends. Throws with what the runtime said. Everything that this
 * makes lies in a temporary directory and in a cgroup of its own, and is gone afterwards.
 */
export async function tryOciRuntime(runtimePath: string, tiniPath = "/usr/bin/tini-static"): Promise<void> {
  const program = await findOciRuntime(runtimePath);
  await using undo = new UndoStack();
  const directory = await mkdtemp(join(tmpdir(), "caisson-try-"));
  undo.defer(() => rm(directory, { recursive: true }));
  const { rootPath, agentPath, agentRunPath } = await makeDirectories(directory, tiniPath);

  const holder = undo.use(await holdNewNamespaces(idMappings(IDS)));
  const user = undo.use(await openNamespace(holder.pid, "user"));
  const network = undo.use(await openNamespace(holder.pid, "net"));
  const sysfsPath = join(directory, "sys");
  await mkdir(sysfsPath);
  undo.defer(() => unmount(sysfsPath));
  await mountSysfs(network, sysfsPath);
  const cgroups = await readCgroups();
  const id = basename(directory);
  undo.defer(() => removeCgroup(cgroups, `/${id}`));
  const cgroupPath = `/${id}/0`;
  await createCgroup(cgroups, `/${id}`, "0");
  await writeFile(
    join(directory, "config.json"),
    JSON.stringify(
      ociConfig({
        hostname: "try",
        rootPath,
        isRootReadOnly: false,
        workingDirectory: "/",
        agent: { directory: agentPath, denoPath: join(agentPath, "tini"), command: [PROGRAM, "--version"] },
        agentRunPath,
        sysfsPath,
        files: {},
        readOnlyFiles: {},
        mounts: [],
        limits: { memoryBytes: 2 ** 26, terminalsMax: 1 },
        environment: [],
        cgroupPath,
        isRunc: program.isRunc,
        ids: IDS,
        cgroups,
        userNamespacePath: namespacePath(user),
        networkNamespacePath: namespacePath(network),
        seccomp: await readSeccompProfile(),
      }),
    ),
  );

  const args = ["--root", join(directory, "state"), ...program.args];
  const containerProcess = undo.use(ContainerProcess.prepare(program.path, args));
  await joinCgroup(cgroups, cgroupPath, containerProcess.pid);
  const pidPath = join(directory, "pid");
  undo.defer(() => killContainer({ containerProcess, id, pidPath, cgroups, cgroupPath }));
  const logPath = join(directory, "log");
  containerProcess.start({ processesMax: 64, bundlePath: directory, logPath, id });
  await endInTime(containerProcess.exited);
  const output = (await readFile(logPath, "utf8").catch(() => "")).replaceAll(directory, "").trim();
  if (!/^tini version/m.test(output)) throw new Error(output === "" ? "it ended without a word" : output);
}

async function mountSysfs(network: HasDescriptor, target: string): Promise<void> {
  await using sysfs = await createNetworkSysfs(network, { isReadOnly: true });
  await moveMount(sysfs, target);
}

/** What ociConfig names, as the container's root may enter and change it. */
async function makeDirectories(
  directory: string,
  tiniPath: string,
): Promise<{ readonly rootPath: string; readonly agentPath: string; readonly agentRunPath: string }> {
  await chmod(directory, 0o711);
  const [rootPath, agentPath, agentRunPath] = ["root", "agent", "agent-run"].map((name) => join(directory, name)) as [
    string,
    string,
    string,
  ];
  for (const path of [rootPath, agentPath, agentRunPath]) {
    await mkdir(path, { mode: 0o755 });
    await chown(path, IDS.firstHostId, IDS.firstHostId);
  }
  // The mount of the agent's own directory lies in this one, which is mounted read-only.
  await mkdir(join(agentPath, "run"));
  await copyFile(tiniPath, join(agentPath, "tini"));
  await chmod(join(agentPath, "tini"), 0o755);
  return { rootPath, agentPath, agentRunPath };
}

async function endInTime(exited: Promise<unknown>): Promise<void> {
  const { promise, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(new Error(`it did not end within ${TIMEOUT_MS / 1000} s`)), TIMEOUT_MS);
  try {
    await Promise.race([exited, promise]);
  } finally {
    clearTimeout(timer);
  }
}
