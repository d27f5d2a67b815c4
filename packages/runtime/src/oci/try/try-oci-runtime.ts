import { chmod, chown, copyFile, mkdir, readFile, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { createNetworkSysfs, type HasDescriptor, moveMount, readCgroups, UndoStack, unmount } from "@caisson/linux";
import { namespacePath, ociConfig } from "../config.ts";
import { KILL_TIMEOUT_MS, killContainer } from "../container.ts";
import { findOciRuntime } from "../find-oci-runtime.ts";
import { readSeccompProfile } from "../seccomp/seccomp.ts";
import { makeTryDirectory, prepareTryEnvironment, TRY_IDS } from "./try-environment.ts";

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
  const directory = await makeTryDirectory(undo);
  const { rootPath, agentPath, agentRunPath } = await makeDirectories(directory, tiniPath);
  const cgroups = await readCgroups();
  const environment = undo.use(await prepareTryEnvironment(directory, program, cgroups));
  const { namespaces, cgroupPath, containerProcess } = environment;
  const sysfsPath = join(directory, "sys");
  await mkdir(sysfsPath);
  undo.defer(() => unmount(sysfsPath));
  await mountSysfs(namespaces.network, sysfsPath);
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
        ids: TRY_IDS,
        cgroups,
        userNamespacePath: namespacePath(namespaces.user),
        networkNamespacePath: namespacePath(namespaces.network),
        seccomp: await readSeccompProfile(),
      }),
    ),
  );

  const id = basename(directory);
  const pidPath = join(directory, "pid");
  undo.defer(() =>
    killContainer({ containerProcess, id, pidPath, cgroups, cgroupPath, killTimeoutMs: KILL_TIMEOUT_MS }),
  );
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
  const [rootPath, agentPath, agentRunPath] = ["root", "agent", "agent-run"].map((name) => join(directory, name)) as [
    string,
    string,
    string,
  ];
  for (const path of [rootPath, agentPath, agentRunPath]) {
    await mkdir(path, { mode: 0o755 });
    await chown(path, TRY_IDS.firstHostId, TRY_IDS.firstHostId);
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
