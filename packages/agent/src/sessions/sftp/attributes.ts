import type { PacketReader, PacketWriter } from "./packets.ts";

const FLAG = { size: 1, owner: 2, permissions: 4, times: 8, extended: 0x80000000 } as const;
const TYPE = { file: 0o100000, directory: 0o040000, link: 0o120000 } as const;
const TYPE_BITS = 0o170000;
export const PERMISSION_BITS = 0o7777;

/** What a client wants a file to have; what is absent stays. */
export interface WantedAttributes {
  readonly size?: number;
  readonly owner?: { readonly uid: number; readonly gid: number };
  readonly permissions?: number;
  /** Seconds. */
  readonly times?: { readonly atime: number; readonly mtime: number };
}

export function readAttributes(packet: PacketReader): WantedAttributes {
  const flags = packet.uint32();
  const has = (flag: number): boolean => (flags & flag) !== 0;
  const size = has(FLAG.size) ? { size: packet.uint64() } : {};
  const owner = has(FLAG.owner) ? { owner: { uid: packet.uint32(), gid: packet.uint32() } } : {};
  const permissions = has(FLAG.permissions) ? { permissions: packet.uint32() & PERMISSION_BITS } : {};
  const times = has(FLAG.times) ? { times: { atime: packet.uint32(), mtime: packet.uint32() } } : {};
  return { ...size, ...owner, ...permissions, ...times };
}

export function writeAttributes(packet: PacketWriter, info: Deno.FileInfo): void {
  packet.uint32(FLAG.size | FLAG.owner | FLAG.permissions | FLAG.times).uint64(info.size);
  packet.uint32(info.uid ?? 0).uint32(info.gid ?? 0);
  packet.uint32(modeOf(info)).uint32(seconds(info.atime)).uint32(seconds(info.mtime));
}

export function writeNoAttributes(packet: PacketWriter): void {
  packet.uint32(0);
}

/** A line as `ls -l` has it, which clients show as it is. */
export function longName(name: string, info: Deno.FileInfo): string {
  const mode = modeOf(info);
  const letters = [..."rwxrwxrwx"].map((letter, index) => ((mode >> (8 - index)) & 1 ? letter : "-")).join("");
  const date = (info.mtime ?? new Date(0)).toISOString();
  const columns = [
    `${typeLetter(mode)}${letters}`,
    String(info.nlink ?? 1).padStart(4),
    String(info.uid ?? 0).padEnd(8),
    String(info.gid ?? 0).padEnd(8),
    String(info.size).padStart(8),
    `${date.slice(0, 10)} ${date.slice(11, 16)}`,
  ];
  return `${columns.join(" ")} ${name}`;
}

function modeOf(info: Deno.FileInfo): number {
  const mode = info.mode ?? 0;
  if ((mode & TYPE_BITS) !== 0) return mode;
  return mode | (info.isDirectory ? TYPE.directory : info.isSymlink ? TYPE.link : TYPE.file);
}

function typeLetter(mode: number): string {
  const type = mode & TYPE_BITS;
  const letters: Readonly<Record<number, string>> = {
    [TYPE.file]: "-",
    [TYPE.directory]: "d",
    [TYPE.link]: "l",
    2401: "p",
    26411: "s",
    4802: "c",
    14406: "b",
  };
  return letters[type] ?? "?";
}

function seconds(date: Date | null): number {
  const value = Math.floor((date?.getTime() ?? 0) / 1000);
  return Math.min(Math.max(value, 0), 0xffffffff);
}
