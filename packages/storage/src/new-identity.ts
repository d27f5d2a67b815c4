import { randomBytes, randomUUID } from "node:crypto";
import type { ImagePiece } from "./driver.ts";

const SUPERBLOCK_BYTES = 1024;
const MAGIC = 0xef53;
/** Places in the superblock (struct ext4_super_block of fs/ext4/ext4.h). */
const FIELD = {
  blocks: 0x4,
  logBlockSize: 0x18,
  blocksPerGroup: 0x20,
  writeTime: 0x30,
  magic: 0x38,
  checkTime: 0x40,
  group: 0x5a,
  incompatible: 0x60,
  uuid: 0x68,
  hashSeed: 0xec,
  makeTime: 0x108,
  blocksHigh: 0x150,
  checksum: 0x3fc,
} as const;
const INCOMPATIBLE_CHECKSUM_SEED = 0x2000;

/**
 * The content of a formatted, never mounted ext4 file system as that of another one: with a UUID and a seed of directory hashes of its own, in the
 * superblock and all its copies. `content` must be that of the whole file system; it is left as it is.
 *
 * That is sound because `formatFileSystem` keeps the seed of the checksums apart from the UUID (feature `metadata_csum_seed`), so that no other
 * checksum depends on what changes, and because no directory is large enough yet to be hashed. File systems of one template share the checksums' seed, as
 * those made from one snapshot do: a block that a disk misplaces from one into the same place of another would pass. The hash seed must not be shared:
 * who knows it can make names that collide in somebody else's directories.
 */
export function withNewIdentity(content: readonly ImagePiece[]): readonly ImagePiece[] {
  const uuid = Buffer.from(randomUUID().replaceAll("-", ""), "hex");
  const hashSeed = randomBytes(16);
  const nowSeconds = Math.floor(Date.now() / 1000);
  const changed = superblocksOf(content).map(({ offset, bytes }) => {
    const superblock = Buffer.from(bytes);
    uuid.copy(superblock, FIELD.uuid);
    hashSeed.copy(superblock, FIELD.hashSeed);
    for (const field of [FIELD.writeTime, FIELD.checkTime, FIELD.makeTime]) superblock.writeUInt32LE(nowSeconds, field);
    superblock.writeUInt32LE(crc32c(superblock.subarray(0, FIELD.checksum)), FIELD.checksum);
    return { offset, bytes: superblock };
  });
  return content.map(({ offset, bytes }) => {
    const inside = changed.filter((one) => one.offset >= offset && one.offset < offset + bytes.length);
    if (inside.length === 0) return { offset, bytes };
    const copy = Uint8Array.from(bytes);
    for (const one of inside) copy.set(one.bytes, one.offset - offset);
    return { offset, bytes: copy };
  });
}

/** The superblock and its copies. Throws where there is no file system of that kind. */
function superblocksOf(content: readonly ImagePiece[]): readonly ImagePiece[] {
  const first = readAt(content, SUPERBLOCK_BYTES);
  if (first === null || (first.readUInt32LE(FIELD.incompatible) & INCOMPATIBLE_CHECKSUM_SEED) === 0)
    throw new Error("There is no ext4 file system with a seed for checksums");
  const blocks = first.readUInt32LE(FIELD.blocks) + first.readUInt32LE(FIELD.blocksHigh) * 2 ** 32;
  const blocksPerGroup = first.readUInt32LE(FIELD.blocksPerGroup);
  const groupBytes = blocksPerGroup * (1024 << first.readUInt32LE(FIELD.logBlockSize));
  const found: ImagePiece[] = [{ offset: SUPERBLOCK_BYTES, bytes: first }];
  for (let group = 1; group < Math.ceil(blocks / blocksPerGroup); group += 1) {
    if (!hasCopy(group)) continue;
    const bytes = readAt(content, group * groupBytes);
    if (bytes === null || bytes.readUInt16LE(FIELD.group) !== group)
      throw new Error(`The copy of the superblock in group ${group} is missing`);
    found.push({ offset: group * groupBytes, bytes });
  }
  return found;
}

/** Groups that keep a copy: 1 and the powers of 3, 5 and 7 (feature `sparse_super`). */
function hasCopy(group: number): boolean {
  return [3, 5, 7].some((base) => {
    let power = 1;
    while (power < group) power *= base;
    return power === group;
  });
}

/** A superblock at this place; null: there is none. */
function readAt(content: readonly ImagePiece[], offset: number): Buffer | null {
  const piece = content.find((one) => one.offset <= offset && offset < one.offset + one.bytes.length);
  if (piece === undefined) return null;
  const start = offset - piece.offset;
  const superblock = Buffer.from(piece.bytes.subarray(start, start + SUPERBLOCK_BYTES));
  return superblock.length === SUPERBLOCK_BYTES && superblock.readUInt16LE(FIELD.magic) === MAGIC ? superblock : null;
}

/** As ext4 uses it: begun with all ones, and not inverted at the end. */
function crc32c(bytes: Uint8Array): number {
  let crc = 0xffff_ffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit += 1) crc = (crc & 1) === 1 ? (crc >>> 1) ^ 0x82f6_3b78 : crc >>> 1;
  }
  return crc >>> 0;
}
