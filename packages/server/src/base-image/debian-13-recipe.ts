import { type AptConfiguration, formatSources } from "./apt-sources.ts";

/** Raise it when the way the image is made changes, so that an image made the old way is not taken for a new one. */
export const RECIPE_VERSION = 3;

export const RELEASE = "trixie";

/**
 * Over mmdebstrap's `minbase`: what protocol.md 5.6 promises, and what a person at a shell or an agent misses first. docs/inside.md lists
 * them; what takes hundreds of megabytes, such as a compiler, is for the user to add.
 */
export const PACKAGES: readonly string[] = [
  "apt-utils",
  "bash-completion",
  "bzip2",
  "ca-certificates",
  "curl",
  "file",
  "git",
  "gpg",
  "iproute2",
  "iputils-ping",
  "jq",
  "less",
  "lsof",
  "nano",
  "netcat-openbsd",
  "openssh-client",
  "patch",
  "procps",
  "psmisc",
  "python-is-python3",
  "python3",
  "python3-pip",
  "python3-venv",
  "ripgrep",
  "rsync",
  "sqlite3",
  "sudo",
  "tree",
  "unzip",
  "vim-tiny",
  "wget",
  "xz-utils",
  "zip",
];

/** Home of root, who runs everything inside, and the default directory. */
export const HOME = "/home/app";

/**
 * Node lies where the Docker images of Node have it: before the distribution's own in the PATH. So `node` stays this version when packages bring
 * Debian's older one, which then is `/usr/bin/node`, and what `npm install --global` installs is found.
 */
export const NODE_PREFIX = "/usr/local";

export interface ImageFile {
  /** Absolute path inside the image. */
  readonly path: string;
  readonly content: string;
  readonly mode: number;
}

/** Directories that exist besides those of the packages. `/.caisson` and the deno file are where the runtime mounts its own. */
export const DIRECTORIES: readonly string[] = ["/app", HOME, "/.caisson"];

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
    plain("/etc/apt/apt.conf.d/90caisson", [...apt.options, 'Acquire::Retries "3";', 'Acquire::Languages "none";']),
    // No init system runs inside, so packages must not try to start their services.
    plain("/usr/sbin/policy-rc.d", ["#!/bin/sh", "exit 101"], 0o755),
    // Everything runs as root already: sudo then changes nothing, not even the environment.
    plain(
      "/etc/sudoers.d/caisson",
      ["Defaults:root !env_reset, !secure_path", "root ALL=(ALL:ALL) NOPASSWD: ALL"],
      0o440,
    ),
    // Everything runs as root, in a root to be thrown away: a word about it with every command would be noise.
    plain("/etc/pip.conf", ["[global]", "root-user-action = ignore"]),
    plain(`${NODE_PREFIX}/etc/npmrc`, ["update-notifier=false"]),
  ];
}
