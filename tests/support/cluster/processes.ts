import { readdir, readFile } from "node:fs/promises";

/** The process and all that it has started, whatever namespaces they are in, parents first. */
export async function processTree(pid: number): Promise<readonly number[]> {
  const children = new Map<number, number[]>();
  for (const name of await readdir("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    const status = await readFile(`/proc/${name}/status`, "utf8").catch(() => "");
    const parent = Number(/^PPid:\s*(\d+)$/m.exec(status)?.[1] ?? 0);
    children.set(parent, [...(children.get(parent) ?? []), Number(name)]);
  }
  const tree = [pid];
  for (const one of tree) tree.push(...(children.get(one) ?? []));
  return tree;
}

/** The one among them that runs Caisson itself, below the programs that gave it namespaces. */
export async function mainProcess(pid: number): Promise<number> {
  for (const one of await processTree(pid)) {
    const [program, ...args] = (await readFile(`/proc/${one}/cmdline`, "utf8").catch(() => "")).split("\0");
    if (program === process.execPath && args.includes("serve")) return one;
  }
  throw new Error(`Process ${pid} has not started Caisson, or that has ended`);
}

/** To each that is still there. */
export function signalAll(pids: readonly number[], signal: NodeJS.Signals): void {
  for (const pid of pids)
    try {
      process.kill(pid, signal);
    } catch {
      // It has ended meanwhile.
    }
}
