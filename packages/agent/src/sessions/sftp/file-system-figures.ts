import { errnoError } from "../../calls/errors.ts";
import { toBytes } from "../../files/names/raw-name.ts";
import type { PacketWriter } from "./packets.ts";

const SYMBOLS = { statvfs: { parameters: ["buffer", "buffer"], result: "i32" } } as const;
/** `struct statvfs` of 64-bit Linux begins with these eleven words, in the order in which SFTP has them. */
const WORDS = 11;

let loaded: Deno.DynamicLibrary<typeof SYMBOLS>["symbols"] | null = null;

/** Writes the figures of the file system of a path, for `statvfs@openssh.com`. */
export function writeFileSystemFigures(packet: PacketWriter, path: string): void {
  loaded ??= Deno.dlopen("libc.so.6", SYMBOLS).symbols;
  const words = new BigUint64Array(2 * WORDS);
  if (loaded.statvfs(toBytes(path), new Uint8Array(words.buffer)) !== 0)
    throw errnoError("ENOENT", "ask a file system");
  for (const word of words.subarray(0, WORDS)) packet.uint64(word);
}
