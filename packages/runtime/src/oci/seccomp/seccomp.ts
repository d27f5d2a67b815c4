import { readFile } from "node:fs/promises";
import { CaissonError } from "@caisson/model";

/**
 * The system calls that a sandbox may make: `seccomp.json`, derived from the profile of Debian's golang-github-containers-common (0.50.1).
 * The profile's conditions are resolved for the capabilities of `config.ts` (of those it asks about, only CAP_SYS_CHROOT is held). It differs
 * in these points, which `seccomp.test.ts` checks against the profile where that is installed:
 */
export const DIFFERENCES = {
  /** Allowed though the profile is too old to know that programs need them. Docker's own profile allows them. */
  allowed: {
    waiting: "io_pgetevents futex_waitv: libaio of Debian 13 and Wine take a refusal for an error of the device",
  },
  /** Refused with EPERM though the profile allows them: what they do needs CAP_SYS_ADMIN, or shows or touches state of the host. */
  refused: {
    mounting:
      "mount umount2 mount_setattr move_mount open_tree fsopen fsconfig fsmount fspick pivot_root: nobody inside holds CAP_SYS_ADMIN, so that only the attack surface would remain",
    keyrings:
      "keyctl add_key request_key: the kernel's keyrings are counted per user and are not namespaced throughout",
    kernel:
      "reboot syslog: the first needs CAP_SYS_BOOT, the second shows the host's kernel log where dmesg_restrict is off",
    segments: "modify_ldt: only 16-bit and 32-bit programs need it",
  },
  /** Answered with ENOSYS, so that programs fall back to older calls. */
  unknown: {
    clone3: "its flags lie in memory, where a filter cannot see them; C libraries fall back to clone",
    fanotify_mark: "useless without fanotify_init, which is refused",
  },
  /** Allowed only with some arguments. */
  conditional: {
    clone:
      "without flags for new namespaces, which give EPERM: nested user namespaces are the way into most kernel privilege bugs",
    unshare: "without flags for new namespaces, time namespaces included, which give EPERM",
    setrlimit:
      "any limit but that of core files, which stays at 1 byte: at 0, to which any program could lower it, a crash starts the host's core handler. Setting it succeeds and changes nothing, because gpg ends and sudo complains when they cannot turn core files off, which they are",
    prlimit64:
      "as setrlimit; EPERM when the old limit of core files is asked for in the same call, since a filter cannot fill it in",
    personality: "as in the profile; ADDR_NO_RANDOMIZE, which debuggers ask for, gives EPERM",
    socket:
      "AF_UNIX, AF_INET, AF_INET6 and AF_NETLINK (not the audit family, as in the profile); others, such as AF_VSOCK, which reaches the machine's hypervisor, AF_ALG and AF_PACKET, give EAFNOSUPPORT",
    socketpair: "AF_UNIX, the only family with a use for it; others give EOPNOTSUPP, as from the kernel",
  },
  /** Calls of 32-bit and foreign architectures are not named: only the native architecture may make system calls at all. */
  architectures: "native only; 32-bit programs are killed at their first system call",
} as const;

/** The seccomp part of an OCI configuration. */
export interface SeccompProfile {
  readonly defaultAction: string;
  readonly defaultErrnoRet: number;
  readonly architectures: readonly string[];
  readonly syscalls: readonly {
    readonly names: readonly string[];
    readonly action: string;
    readonly errnoRet?: number;
    readonly args?: readonly {
      readonly index: number;
      readonly value: number;
      readonly valueTwo?: number;
      readonly op: string;
    }[];
  }[];
}

const ARCHITECTURES: Readonly<Record<string, string>> = { x64: "SCMP_ARCH_X86_64", arm64: "SCMP_ARCH_AARCH64" };

/** Reads the profile for this machine's architecture. */
export async function readSeccompProfile(): Promise<SeccompProfile> {
  const architecture = ARCHITECTURES[process.arch];
  if (architecture === undefined) {
    throw new CaissonError(
      "NOT_SUPPORTED",
      `Cannot filter system calls on "${process.arch}": run the server on x64 or arm64`,
    );
  }
  const profile = JSON.parse(await readFile(new URL("seccomp.json", import.meta.url), "utf8")) as Omit<
    SeccompProfile,
    "architectures"
  >;
  return { ...profile, architectures: [architecture] };
}
