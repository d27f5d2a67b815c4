import { readFile } from "node:fs/promises";

/** Throws outside of `scripts/isolate.sh`: what a test that is killed has mounted there would stay on the host, where no later test looks for it. */
export async function requireIsolation(): Promise<void> {
  if ((await readFile("/proc/1/comm", "utf8")).trim() !== "tini")
    throw new Error("This test mounts disks: run it with scripts/test.sh FILE, or below scripts/isolate.sh");
}
