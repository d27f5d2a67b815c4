import { CaissonError, reservedPathOf } from "@caisson/model";

/** A volume and where it appears in the sandbox. */
export interface VolumeMount {
  /** Absolute, normalised: no `.`, `..`, doubled or trailing slash. */
  readonly path: string;
  /** Id or slug. */
  readonly volume: string;
  readonly isReadOnly: boolean;
}

const MAX_PATH_BYTES = 4095;
const MAX_NAME_BYTES = 255;

/**
 * Reads `volumes` in every dialect (protocol.md 1.5): the list of `{ volume, path }` that JavaScript sends, the object from path to
 * volume that Python sends, and our addition to both, `read_only`: `{ volume, path, read_only }` and path to `{ volume, read_only }`.
 * Sorted so that a mount below another comes after it. Throws `INVALID_CONFIG`.
 */
export function decodeVolumes(value: unknown): readonly VolumeMount[] {
  const mounts = (Array.isArray(value) ? value.map(fromItem) : entriesOf(value).map(fromEntry)).map((mount) => ({
    ...mount,
    path: normalisePath(mount.path),
  }));
  mounts.sort((a, b) => (a.path < b.path ? -1 : 1));
  for (const [index, mount] of mounts.entries()) {
    if (mount.path === mounts[index + 1]?.path)
      throw invalid(`two volumes are mounted at ${JSON.stringify(mount.path)}`);
  }
  return mounts;
}

function entriesOf(value: unknown): [string, unknown][] {
  if (typeof value === "object" && value !== null) return Object.entries(value);
  throw invalid('"volumes" must be a list of { volume, path }, or an object from mount paths to volumes');
}

function fromItem(item: unknown): VolumeMount {
  const { volume, path, read_only: isReadOnly } = membersOf(item);
  if (typeof path !== "string") throw invalid('each item of "volumes" needs a mount path in "path"');
  return mountOf(path, volume, isReadOnly);
}

function fromEntry([path, value]: [string, unknown]): VolumeMount {
  if (typeof value === "string") return mountOf(path, value, undefined);
  const { volume, read_only: isReadOnly } = membersOf(value);
  return mountOf(path, volume, isReadOnly);
}

function membersOf(value: unknown): { volume?: unknown; path?: unknown; read_only?: unknown } {
  return typeof value === "object" && value !== null ? value : {};
}

function mountOf(path: string, volume: unknown, isReadOnly: unknown): VolumeMount {
  const shown = JSON.stringify(path.slice(0, 128));
  if (typeof volume !== "string" || volume === "")
    throw invalid(`the mount at ${shown} needs the id or slug of a volume`);
  if (isReadOnly !== undefined && isReadOnly !== null && typeof isReadOnly !== "boolean") {
    throw invalid(`"read_only" of the mount at ${shown} must be true or false`);
  }
  return { path, volume, isReadOnly: isReadOnly === true };
}

function normalisePath(path: string): string {
  const shown = JSON.stringify(path.slice(0, 128));
  const names = path.split("/").filter((name) => name !== "" && name !== ".");
  if (!path.startsWith("/") || path.includes("\0") || names.includes("..")) {
    throw invalid(`the mount path ${shown} must be absolute and without ".." or NUL`);
  }
  const normalised = `/${names.join("/")}`;
  if (names.length === 0) throw invalid('a volume cannot be mounted at "/": give it in "root" instead');
  if (
    Buffer.byteLength(normalised) > MAX_PATH_BYTES ||
    names.some((name) => Buffer.byteLength(name) > MAX_NAME_BYTES)
  ) {
    throw invalid(`the mount path ${shown} is too long`);
  }
  const reserved = reservedPathOf(normalised);
  if (reserved !== null)
    throw invalid(`a volume cannot be mounted at ${shown}: ${reserved} belongs to the sandbox itself`);
  return normalised;
}

function invalid(reason: string): CaissonError {
  return new CaissonError("INVALID_CONFIG", `Cannot create a sandbox: ${reason}`);
}
