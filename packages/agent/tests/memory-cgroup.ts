import { existsSync, mkdtempSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { eventually } from "./eventually.ts";

/** The hierarchy that rules memory here: version 1 where the host still has it, else version 2. */
const VERSION_1 = "/sys/fs/cgroup/memory";
const isVersion1 = existsSync(VERSION_1);
const root = isVersion1 ? VERSION_1 : "/sys/fs/cgroup";

/** A cgroup with little memory that shows inside as the whole hierarchy, as in a sandbox. */
export class MemoryCgroup implements AsyncDisposable {
  readonly path = mkdtempSync(join(root, "caisson-test-"));

  constructor(limitBytes: number) {
    writeFileSync(join(this.path, isVersion1 ? "memory.limit_in_bytes" : "memory.max"), String(limitBytes));
    if (!isVersion1) writeFileSync(join(this.path, "memory.swap.max"), "0");
  }

  /** Words before a command that start it in the cgroup. */
  get prefix(): string[] {
    const script = `echo $$ > ${this.path}/cgroup.procs && mount --bind ${this.path} ${root} && exec "$@"`;
    return ["unshare", "--mount", "--propagation", "slave", "sh", "-c", script, "agent"];
  }

  /** Processes that the kernel has ended here for want of memory. */
  get kills(): number {
    const events = readFileSync(join(this.path, isVersion1 ? "memory.oom_control" : "memory.events"), "utf8");
    return Number(/^oom_kill (\d+)$/m.exec(events)?.[1]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await eventually("the cgroup is empty", () => readFileSync(join(this.path, "cgroup.procs"), "utf8") === "");
    rmdirSync(this.path);
  }
}
