/** Where a sandbox has what the kernel or Caisson puts there: a volume in its place, or below it, would break the sandbox, not add to it. */
export const RESERVED_PATHS: readonly string[] = [
  ...["/proc", "/sys", "/dev", "/.caisson", "/run/caisson", "/usr/local/bin/deno"],
  ...["/etc/hosts", "/etc/hostname", "/etc/resolv.conf"],
];

/** The reserved path that this absolute and normalised one is, or lies below; null: none. */
export function reservedPathOf(path: string): string | null {
  return RESERVED_PATHS.find((reserved) => path === reserved || path.startsWith(`${reserved}/`)) ?? null;
}
