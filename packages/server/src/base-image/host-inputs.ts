import { createHash } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { hasErrorCode } from "@caisson/linux";
import { type AptConfiguration, readAptConfiguration } from "./apt-sources.ts";
import { imageFiles, PACKAGES, RECIPE_VERSION, RELEASE } from "./debian-13-recipe.ts";

const LOCAL_CERTIFICATES = "/usr/local/share/ca-certificates";

/** A file of the host that goes into the image. */
export interface CertificateFile {
  readonly name: string;
  readonly content: string;
}

/** Everything outside the recipe that decides what the image will contain. */
export interface ImageInputs {
  readonly apt: AptConfiguration;
  /** Certificates that the host's administrator installed, which sandboxes trust too. */
  readonly certificates: readonly CertificateFile[];
  readonly node: { readonly version: string; readonly binaryPath: string };
  readonly npm: { readonly version: string; readonly directory: string };
  readonly architecture: string;
}

export async function readImageInputs(): Promise<ImageInputs> {
  const [apt, certificates, node, npm] = await Promise.all([
    readAptConfiguration(RELEASE),
    readCertificates(LOCAL_CERTIFICATES),
    findPackage("node"),
    findPackage("npm"),
  ]);
  return {
    apt,
    certificates,
    node: { version: node.version, binaryPath: join(node.directory, "bin/node") },
    npm,
    architecture: process.arch,
  };
}

/** The content key of the image: the same inputs and recipe give the same key. */
export function imageKey(inputs: ImageInputs): string {
  const content = {
    recipe: RECIPE_VERSION,
    release: RELEASE,
    packages: PACKAGES,
    files: imageFiles(inputs.apt),
    certificates: inputs.certificates,
    node: inputs.node.version,
    npm: inputs.npm.version,
    architecture: inputs.architecture,
  };
  return `debian-13-${createHash("sha256").update(JSON.stringify(content)).digest("hex").slice(0, 24)}`;
}

/** Reads the `.crt` files that update-ca-certificates(8) would read. */
export async function readCertificates(directory: string): Promise<readonly CertificateFile[]> {
  const names = await readdir(directory, { recursive: true }).catch((error: unknown) => {
    if (hasErrorCode(error, "ENOENT")) return [];
    throw error;
  });
  const files = names.filter((name) => name.endsWith(".crt")).sort();
  return Promise.all(
    files.map(async (name) => ({
      name: name.replaceAll("/", "-"),
      content: await readFile(join(directory, name), "utf8"),
    })),
  );
}

async function findPackage(name: string): Promise<{ readonly version: string; readonly directory: string }> {
  const path = createRequire(import.meta.url).resolve(`${name}/package.json`);
  const { version } = JSON.parse(await readFile(path, "utf8")) as { readonly version: string };
  return { version, directory: dirname(path) };
}
