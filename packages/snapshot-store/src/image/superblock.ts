const OFFSET = 1024;
const LENGTH = 1024;
const MAGIC = 0xef53;
const LOG_BLOCK_SIZE_MAX = 6;

/** How large the ext4 file system is whose image begins with these bytes, of which there must be 2 KiB; null: there is none. */
export function fileSystemBytes(beginning: Buffer): number | null {
  const block = beginning.subarray(OFFSET, OFFSET + LENGTH);
  if (block.length < LENGTH || block.readUInt16LE(0x38) !== MAGIC) return null;
  const blocks = block.readUInt32LE(0x4) + block.readUInt32LE(0x150) * 2 ** 32;
  const logBlockSize = block.readUInt32LE(0x18);
  return blocks === 0 || logBlockSize > LOG_BLOCK_SIZE_MAX ? null : blocks * 2 ** (10 + logBlockSize);
}
