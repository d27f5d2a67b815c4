import { createHash } from "node:crypto";
import { open } from "node:fs/promises";
import { runTool } from "@caisson/linux";

/** What the suites do with block devices: write known contents, read them back, discard. */
export const MIB = 2 ** 20;

/** Bytes that look random and are the same for the same seed. */
export function patternOf(seed: string, sizeBytes: number): Buffer {
  const block = createHash("shake256", { outputLength: 4096 }).update(seed).digest();
  const pattern = Buffer.alloc(sizeBytes);
  for (let offset = 0; offset < sizeBytes; offset += block.length) {
    block.writeUInt32LE(offset % 2 ** 32, 0);
    block.copy(pattern, offset);
  }
  return pattern;
}

/** Writes and flushes. */
export async function writeDevice(path: string, contents: Buffer, offset: number): Promise<void> {
  await using device = await open(path, "r+");
  for (let written = 0; written < contents.length; ) {
    const part = await device.write(contents, written, contents.length - written, offset + written);
    written += part.bytesWritten;
  }
  await device.sync();
}

export async function readDevice(path: string): Promise<Buffer> {
  await using device = await open(path, "r");
  const parts: Buffer[] = [];
  for (let position = 0; ; ) {
    const { bytesRead, buffer } = await device.read(Buffer.alloc(4 * MIB), 0, 4 * MIB, position);
    if (bytesRead === 0) return Buffer.concat(parts);
    parts.push(buffer.subarray(0, bytesRead));
    position += bytesRead;
  }
}

export async function hashDevice(path: string): Promise<string> {
  return createHash("sha256")
    .update(await readDevice(path))
    .digest("hex");
}

export async function discardDevice(path: string, offset: number, sizeBytes: number): Promise<void> {
  await runTool("blkdiscard", ["--offset", String(offset), "--length", String(sizeBytes), path]);
}
