import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import {
  type Cgroups,
  createCgroup,
  holdNewNamespaces,
  type IdRange,
  joinCgroup,
  openNamespace,
  removeCgroup,
  UndoStack,
} from "@caisson/linux";
import { idMappings } from "../../network/namespaces.ts";
import { ContainerProcess } from "../container-process.ts";
import type { OciProgram } from "../find-oci-runtime.ts";
import type { PreparedEnvironment } from "../prepared-environment.ts";

/** Just below the ids that sandboxes get (network/places.ts). */
export const TRY_IDS: IdRange = { firstHostId: 0x6fff0000, count: 65536 };
/** Of no host (RFC 5737), and of no interface. */
const ADDRESS = "192.0.2.1";

/** A temporary directory that ids of sandboxes can pass. `undo` removes it. */
export async function makeTryDirectory(undo: UndoStack): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), "caisson-try-"));
  undo.defer(() => rm(directory, { recursive: true }));
  await chmod(directory, 0o711);
  return directory;
}

/** What a sandbox's environment is, but without a network: namespaces, and a process in a cgroup that has the name of the directory. */
export async function prepareTryEnvironment(
  directory: string,
  program: OciProgram,
  cgroups: Cgroups,
): Promise<PreparedEnvironment> {
  await using undo = new UndoStack();
  await using holder = await holdNewNamespaces(idMappings(TRY_IDS));
  const user = undo.use(await openNamespace(holder.pid, "user"));
  const network = undo.use(await openNamespace(holder.pid, "net"));
  const parent = `/${basename(directory)}`;
  undo.defer(() => removeCgroup(cgroups, parent));
  const cgroupPath = `${parent}/0`;
  await createCgroup(cgroups, parent, "0");
  const args = ["--root", join(directory, "state"), ...program.args];
  const containerProcess = undo.use(ContainerProcess.prepare(program.path, args));
  await joinCgroup(cgroups, cgroupPath, containerProcess.pid);
  const namespaces = {
    slot: { index: 0, ids: TRY_IDS, address: ADDRESS },
    user,
    network,
    [Symbol.asyncDispose]: async () => undefined,
  };
  const resources = undo.move();
  return { namespaces, containerProcess, cgroupPath, [Symbol.asyncDispose]: () => resources[Symbol.asyncDispose]() };
}
