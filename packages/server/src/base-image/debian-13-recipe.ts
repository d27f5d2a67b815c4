import { type AptConfiguration, formatSources } from "./apt-sources.ts";

/** Raise it when the way the image is made changes, so that an image made the old way is not taken for a new one. */
export const RECIPE_VERSION = 2;

export const RELEASE = "trixie";

/** Over mmdebstrap's `minbase`: what protocol.md 5.6 promises, and what a person at a shell misses first. */
export const PACKAGES: readonly string[] = [
  "bash-completion",
  "ca-certificates",
  "curl",
  "git",
  "iproute2",
  "iputils-ping",
  "less",
  "nano",
  "openssh-client",
  "procps",
  "python3",
  "sudo",
  "unzip",
  "xz-utils",
];

/** Home of root, who runs everything inside, and the default directory. */
export const HOME = "/home/app";

/** Node lives apart from the distribution's own packages, last on the PATH, so that an `apt-get install nodejs` wins over it. */
export const NODE_DIRECTORY = "/opt/node";

export interface ImageFile {
  /** Absolute path inside the image. */
  readonly path: string;
  readonly content: string;
  readonly mode: number;
}

/** Directories that exist besides those of the packages. `/.caisson` and the deno file are where the runtime mounts its own. */
export const DIRECTORIES: readonly string[] = ["/app", HOME, "/.caisson", NODE_DIRECTORY];

/** Files that make a Debian root a good sandbox. Empty ones are places for the runtime's mounts. */
export function imageFiles(apt: AptConfiguration): readonly ImageFile[] {
  const plain = (path: string, lines: readonly string[], mode = 0o644): ImageFile => ({
    path,
    content: lines.map((line) => `${line}\n`).join(""),
    mode,
  });
  return [
    plain("/etc/hostname", []),
    plain("/etc/hosts", []),
    plain("/etc/resolv.conf", []),
    plain("/etc/machine-id", []),
    plain("/usr/local/bin/deno", [], 0o755),
    { path: "/etc/apt/sources.list.d/debian.sources", content: formatSources(apt.sources), mode: 0o644 },
    plain("/etc/apt/apt.conf.d/90caisson", [...apt.options, 'Acquire::Retries "3";']),
    // No init system runs inside, so packages must not try to start their services.
    plain("/usr/sbin/policy-rc.d", ["#!/bin/sh", "exit 101"], 0o755),
    // Everything runs as root already: sudo then changes nothing, not even the environment.
    plain(
      "/etc/sudoers.d/caisson",
      ["Defaults:root !env_reset, !secure_path", "root ALL=(ALL:ALL) NOPASSWD: ALL"],
      0o440,
    ),
    // A login shell starts from Debian's own PATH, which lacks Node.
    plain("/etc/profile.d/caisson.sh", [`PATH="$PATH:${NODE_DIRECTORY}/bin"`]),
  ];
}
