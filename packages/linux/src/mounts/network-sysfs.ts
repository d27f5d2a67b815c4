import { closeSync, openSync } from "node:fs";
import { Descriptor, type HasDescriptor } from "../calls/descriptor.ts";
import { callSync, passFaultPoint } from "../calls/ffi.ts";
import { attributeBits, FSCONFIG_CREATE, MOUNT_SYSCALLS, type MountAttributes } from "./mount.ts";

const CLONE_NEWNET = 0x40000000;
const CLOEXEC = 1;

/**
 * Makes a sysfs that shows the interfaces of a network namespace, attached nowhere yet. A sysfs belongs to the namespace of the thread that makes
 * it, so the main thread, to which all of the program's own sockets belong, is there for four calls that wait for nothing; should it fail to
 * come back, the process ends.
 */
export async function createNetworkSysfs(network: HasDescriptor, attributes: MountAttributes): Promise<Descriptor> {
  const options = { name: "sysfs", detail: "of a network namespace" };
  await passFaultPoint(options);
  const own = openSync("/proc/self/ns/net", "r");
  try {
    callSync("setns", [network.fd, CLONE_NEWNET], options);
    try {
      const context = callSync("fsopen", [MOUNT_SYSCALLS.fsopen, "sysfs", CLOEXEC], options);
      try {
        callSync("fsconfig", [MOUNT_SYSCALLS.fsconfig, context, FSCONFIG_CREATE, null, null, 0], options);
        const args = [MOUNT_SYSCALLS.fsmount, context, CLOEXEC, attributeBits(attributes)];
        return new Descriptor(callSync("fsmount", args, options));
      } finally {
        closeSync(context);
      }
    } finally {
      returnTo(own);
    }
  } finally {
    closeSync(own);
  }
}

function returnTo(namespace: number): void {
  try {
    callSync("setns", [namespace, CLONE_NEWNET], { name: "setns", detail: "back to the own network namespace" });
  } catch (error) {
    process.stderr.write(`${String(error)}\n`);
    process.abort();
  }
}
