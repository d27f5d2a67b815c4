import { readFile } from "node:fs/promises";
import { openFile } from "../calls/files.ts";
import { hasErrorCode } from "../calls/kernel-error.ts";

const DRIVER = "/sys/devices/system/cpu/cpuidle/current_driver";
const LATENCY = "/dev/cpu_dma_latency";

/**
 * Whether this is a virtual machine whose processors halt when they have nothing to do, which hands them back to the machine below:
 * waking one takes about as long as writing a block does. (Documentation/virt/guest-halt-polling.rst of Linux.)
 */
export async function haltsWhenIdle(): Promise<boolean> {
  return (await readFile(DRIVER, "utf8").catch(() => "")).trim() === "haltpoll";
}

/**
 * Keeps all processors from halting until the result is disposed of, or the process ends, however it ends. Their idle time then counts as
 * used. `null` where the kernel has no such request or does not let this process make it.
 */
export async function keepProcessorsAwake(): Promise<AsyncDisposable | null> {
  try {
    const request = await openFile(LATENCY, "r+");
    try {
      // The longest delay that is accepted, in µs, as an integer in the machine's byte order (Documentation/power/pm_qos_interface.rst).
      await request.write(new Int32Array([0]));
      return request;
    } catch (error) {
      await request.close();
      throw error;
    }
  } catch (error) {
    if (hasErrorCode(error, "ENOENT", "ENXIO", "EACCES", "EPERM")) return null;
    throw error;
  }
}
