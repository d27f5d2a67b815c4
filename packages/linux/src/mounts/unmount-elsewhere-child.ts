import { openSync } from "node:fs";
import { callSync } from "../calls/ffi.ts";

/**
 * Arguments: the mount namespace to enter, and what to unmount in it. Namespaces and roots belong to threads, and all calls are made on the main one.
 * Targets are mounts, so nobody can have put links in their place.
 */
const CLONE_FS = 0x200;
const CLONE_NEWNS = 0x20000;
const MNT_DETACH = 2;
const UMOUNT_NOFOLLOW = 8;

const [namespacePath = "", ...targets] = process.argv.slice(2);
const namespace = openSync(namespacePath, "r");
// A thread that shares its root with others may not enter a mount namespace.
callSync("unshare", [CLONE_FS], { name: "unshare", detail: "the root directory" });
callSync("setns", [namespace, CLONE_NEWNS], { name: "setns", detail: namespacePath });
for (const target of targets) {
  callSync("umount2", [target, MNT_DETACH | UMOUNT_NOFOLLOW], { name: "umount", detail: target });
}
