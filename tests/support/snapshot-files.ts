import { type FileHandle, mkdtemp, open, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { runTool } from "@caisson/linux";
import { CHUNK_BYTES, readChunks, type SnapshotHeader, writeSnapshotFile } from "@caisson/snapshot-store";

const MIB = 2 ** 20;

/** An ext4 image that a test makes, as the server's own or with other options, and may spoil. */
export class MadeImage implements AsyncDisposable {
  readonly directory: string;
  readonly sizeBytes: number;

  private constructor(directory: string, sizeBytes: number) {
    this.directory = directory;
    this.sizeBytes = sizeBytes;
  }

  static async make(options: readonly string[] = [], sizeBytes = 64 * MIB): Promise<MadeImage> {
    const directory = await mkdtemp(join(tmpdir(), "caisson-image-"));
    const image = new MadeImage(directory, sizeBytes);
    try {
      await using file = await open(image.path, "wx");
      await file.truncate(sizeBytes);
      await runTool("mkfs.ext4", ["-q", "-b", "4096", "-e", "remount-ro", ...options, image.path]);
    } catch (error) {
      await rm(directory, { recursive: true });
      throw error;
    }
    return image;
  }

  get path(): string {
    return join(this.directory, "image.ext4");
  }

  async tune(...options: readonly string[]): Promise<void> {
    await runTool("tune2fs", [...options, this.path]);
  }

  async write(offset: number, bytes: Uint8Array): Promise<void> {
    await using file = await open(this.path, "r+");
    await file.write(bytes, 0, bytes.length, offset);
  }

  async bytes(): Promise<Buffer> {
    await using file = await open(this.path, "r");
    return await file.readFile();
  }

  /** A snapshot file of it that is sound in all that its format checks. */
  async asSnapshotFile(changed: Partial<SnapshotHeader> = {}): Promise<Buffer> {
    await using file = await open(this.path, "r");
    const header: SnapshotHeader = {
      sizeBytes: this.sizeBytes,
      chunkBytes: CHUNK_BYTES,
      dataBytes: null,
      fileSystem: { type: "ext4", uuid: "0".repeat(32), sizeBytes: this.sizeBytes },
      slug: "made",
      labels: {},
      isBootable: false,
      consistency: "clean",
      createdAt: "2026-01-01T00:00:00Z",
      origin: { snapshotId: "snp_made", region: "ord", volume: null, baseSnapshot: null },
      parent: null,
      ...changed,
    };
    return Buffer.concat(
      await Array.fromAsync(writeSnapshotFile(header, readChunks(sourceOf(file, this.sizeBytes), CHUNK_BYTES))),
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.directory, { recursive: true });
  }
}

function sourceOf(file: FileHandle, sizeBytes: number) {
  return {
    sizeBytes,
    async *pieces() {
      const bytes = Buffer.alloc(MIB);
      for (let offset = 0; offset < sizeBytes; offset += MIB) {
        const { bytesRead } = await file.read(bytes, 0, MIB, offset);
        yield { offset, bytes: bytes.subarray(0, bytesRead) };
      }
    },
  };
}
