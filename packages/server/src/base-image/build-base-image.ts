import {
  chmod,
  copyFile,
  cp,
  lstat,
  mkdir,
  open,
  readdir,
  readFile,
  rm,
  symlink,
  truncate,
  writeFile,
} from "node:fs/promises";
import { dirname, join } from "node:path";
import { runTool } from "@caisson/linux";
import { DIRECTORIES, HOME, imageFiles, NODE_PREFIX, PACKAGES, RELEASE } from "./debian-13-recipe.ts";
import type { ImageInputs } from "./host-inputs.ts";
import { runInRoot } from "./run-in-root.ts";

export interface ImageProgress {
  /** A word for the program, for example `packages`. */
  readonly phase: "waiting" | "bootstrap" | "customize" | "format" | "done";
  /** From 0 to 1, over the whole build. */
  readonly fraction: number;
  /** A sentence for the person who waits. */
  readonly message: string;
}

export interface BuildOptions {
  readonly onProgress?: (progress: ImageProgress) => void;
  readonly signal?: AbortSignal;
}

/** Messages of mmdebstrap, in their order, and how much of the whole build is over when each appears (measured). */
const BOOTSTRAP_MILESTONES: readonly (readonly [pattern: string, fraction: number, message: string])[] = [
  ["running apt-get update", 0.02, "Reading the package lists"],
  ["downloading packages", 0.1, "Downloading the base system"],
  ["extracting archives", 0.2, "Unpacking the base system"],
  ["installing essential packages", 0.25, "Installing the base system"],
  ["installing remaining packages", 0.4, "Installing packages"],
  ["cleaning package lists", 0.8, "Cleaning up"],
];

/** The journal of a small file system stays small when it is grown, so it gets from the start the size that suits 10 GB. */
const JOURNAL_BYTES = 64 * 2 ** 20;
const BYTES_PER_INODE = 16384;
const BLOCK_BYTES = 4096;
/**
 * How many block groups keep their tables together. When a clone is grown, the tool looks for places for the tables of the new groups, block by
 * block from the beginning of such a bundle. The image is full, so few groups may share a bundle with it: 13 ms instead of 34 to grow it to
 * 10 GB with the tool's default of 16.
 */
const GROUPS_PER_BUNDLE = 4;

/**
 * Makes the Debian root in `directory/root` and then, as an ext4 file system no larger than it must be, the file `directory/image.ext4`.
 * The caller owns `directory` and removes it. Aborting kills every process of the build at once.
 */
export async function buildBaseImage(
  directory: string,
  inputs: ImageInputs,
  options: BuildOptions = {},
): Promise<string> {
  const root = join(directory, "root");
  const image = join(directory, "image.ext4");
  const report = (phase: ImageProgress["phase"], fraction: number, message: string): void =>
    options.onProgress?.({ phase, fraction, message });
  const signal = options.signal === undefined ? {} : { signal: options.signal };

  report("bootstrap", 0, "Starting mmdebstrap");
  await bootstrap(root, inputs, {
    ...signal,
    onErrorLine: (line) => {
      const milestone = BOOTSTRAP_MILESTONES.find(([pattern]) => line.includes(pattern));
      if (milestone !== undefined) report("bootstrap", milestone[1], milestone[2]);
    },
  });
  report("customize", 0.83, "Adding Node, certificates and settings");
  await addFiles(root, inputs);
  await addNode(root, inputs);
  await runInRoot(root, ["update-ca-certificates"], signal);
  await runInRoot(root, [`${NODE_PREFIX}/bin/node`, "--version"], signal);
  await openPython(root, signal);
  report("format", 0.9, "Writing the file system");
  await format(root, image, signal);
  return image;
}

async function bootstrap(
  root: string,
  inputs: ImageInputs,
  options: { readonly signal?: AbortSignal; readonly onErrorLine: (line: string) => void },
): Promise<void> {
  const aptOptions = [...inputs.apt.options, 'Acquire::Retries "3";', 'Acquire::Languages "none";'];
  const sources = inputs.apt.sources.map(({ uri, suite, components }) => `deb ${uri} ${suite} ${components.join(" ")}`);
  // The namespaces make sure that killing the one process that this one started ends all of the build and drops its mounts.
  const namespaces = [
    "--mount",
    "--propagation",
    "slave",
    "--pid",
    "--fork",
    "--kill-child=SIGKILL",
    "--mount-proc",
    "--",
  ];
  const mmdebstrap = [
    "mmdebstrap",
    "--mode=root",
    "--variant=minbase",
    "--format=directory",
    `--include=${PACKAGES.join(",")}`,
    "--keyring=/usr/share/keyrings/debian-archive-keyring.gpg",
    // Nothing of a build that a crash interrupts is ever used, so dpkg need not wait for the disk.
    "--dpkgopt=force-unsafe-io",
    ...aptOptions.map((line) => `--aptopt=${line}`),
    RELEASE,
    root,
    ...sources,
  ];
  // What it keeps for itself goes with the build's directory, also when it is killed.
  const env = { LC_ALL: "C.UTF-8", TMPDIR: dirname(root) };
  await runTool("unshare", [...namespaces, ...mmdebstrap], { ...options, env });
}

async function addFiles(root: string, inputs: ImageInputs): Promise<void> {
  for (const path of DIRECTORIES) await mkdir(join(root, path), { recursive: true, mode: 0o755 });
  // The build's own settings and the device nodes, in whose place the runtime mounts a file system, are not part of the image.
  for (const path of [
    "/etc/apt/sources.list",
    "/etc/apt/apt.conf.d/99mmdebstrap",
    "/etc/dpkg/dpkg.cfg.d/99mmdebstrap",
  ]) {
    await rm(join(root, path), { force: true });
  }
  for (const name of await readdir(join(root, "dev"))) await rm(join(root, "dev", name), { recursive: true });
  for (const { path, content, mode } of imageFiles(inputs.apt)) {
    await mkdir(dirname(join(root, path)), { recursive: true });
    // Packages may have left a link in its place, for example to a file that only a running system has.
    await rm(join(root, path), { force: true });
    await writeFile(join(root, path), content);
    await chmod(join(root, path), mode);
  }
  const certificates = join(root, "usr/local/share/ca-certificates");
  await mkdir(certificates, { recursive: true });
  for (const { name, content } of inputs.certificates) await writeFile(join(certificates, name), content);
  const passwd = join(root, "etc/passwd");
  await writeFile(passwd, (await readFile(passwd, "utf8")).replace(/^(root:.*):\/root:/m, `$1:${HOME}:`));
  for (const name of await readdir(join(root, "etc/skel")))
    await copyFile(join(root, "etc/skel", name), join(root, HOME, name));
}

async function addNode(root: string, { node, npm }: ImageInputs): Promise<void> {
  const target = join(root, NODE_PREFIX);
  await copyFile(node.binaryPath, join(target, "bin/node"));
  await chmod(join(target, "bin/node"), 0o755);
  await cp(npm.directory, join(target, "lib/node_modules/npm"), { recursive: true });
  for (const name of ["npm", "npx"])
    await symlink(`../lib/node_modules/npm/bin/${name}-cli.js`, join(target, "bin", name));
}

/**
 * Lets pip install for the whole system, as in the Docker images of Python: it installs below /usr/local, where no package of the distribution
 * has files. A diversion, unlike a removed file, survives an upgrade of Python (PEP 668 names this file).
 */
async function openPython(root: string, options: { readonly signal?: AbortSignal }): Promise<void> {
  const versions = (await readdir(join(root, "usr/lib"))).filter((name) => /^python3\.\d+$/.test(name));
  for (const version of versions) {
    const marker = `/usr/lib/${version}/EXTERNALLY-MANAGED`;
    await runInRoot(root, ["dpkg-divert", "--local", "--rename", "--add", marker], options);
  }
}

async function format(root: string, image: string, options: { readonly signal?: AbortSignal }): Promise<void> {
  const { bytes, inodes } = await measure(root);
  const wanted = Math.max(bytes * 1.08 + JOURNAL_BYTES + 48 * 2 ** 20, inodes * 1.2 * BYTES_PER_INODE);
  await writeFile(image, "");
  await truncate(image, Math.ceil(wanted / 2 ** 24) * 2 ** 24);
  const features = [
    "-i",
    String(BYTES_PER_INODE),
    "-b",
    String(BLOCK_BYTES),
    "-m",
    "0",
    "-J",
    `size=${JOURNAL_BYTES / 2 ** 20}`,
    "-G",
    String(GROUPS_PER_BUNDLE),
  ];
  const extended = "lazy_itable_init=1,lazy_journal_init=1,root_owner=0:0";
  await runTool("mkfs.ext4", ["-q", "-F", "-L", "debian-13", ...features, "-E", extended, "-d", root, image], options);
  const file = await open(image, "r+");
  await file.sync();
  await file.close();
}

/** Blocks and inodes that the tree will take; a file with several names counts once. */
async function measure(root: string): Promise<{ readonly bytes: number; readonly inodes: number }> {
  const seen = new Set<number>();
  let bytes = 0;
  for (const entry of await readdir(root, { recursive: true, withFileTypes: true })) {
    const { ino, size } = await lstat(join(entry.parentPath, entry.name));
    if (seen.has(ino)) continue;
    seen.add(ino);
    bytes += Math.ceil(size / BLOCK_BYTES) * BLOCK_BYTES;
  }
  return { bytes, inodes: seen.size };
}
