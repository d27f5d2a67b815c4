import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { suite, test } from "node:test";
import { crc32, zstdCompressSync } from "node:zlib";
import { CaissonError } from "@caisson/model";
import fc from "fast-check";
import { sha256 } from "../chunk.ts";
import { encodeHeader, type SnapshotHeader } from "../header.ts";
import { readChunks } from "../image/read-chunks.ts";
import { encodeHead, encodePreamble, HEAD_BYTES, PREAMBLE_BYTES } from "./frame.ts";
import { SnapshotFileReader } from "./read-file.ts";
import { writeSnapshotFile } from "./write-file.ts";

const CHUNK = 64 * 1024;

const headerOf = (sizeBytes: number): SnapshotHeader => ({
  sizeBytes,
  chunkBytes: CHUNK,
  dataBytes: null,
  fileSystem: { type: "ext4", uuid: "0123456789abcdef0123456789abcdef", sizeBytes },
  slug: "tools-v1",
  labels: { team: "a" },
  isBootable: true,
  consistency: "frozen",
  createdAt: "2026-01-02T03:04:05.678Z",
  origin: { snapshotId: "snp_ord_1", region: "ord", volume: "tools", baseSnapshot: null },
  parent: null,
});

/** An image in memory, of which all is offered as data. */
const imageOf = (bytes: Buffer) => ({
  sizeBytes: bytes.length,
  async *pieces() {
    yield { offset: 0, bytes };
  },
});

async function write(image: Buffer): Promise<Buffer> {
  const chunks = readChunks(imageOf(image), CHUNK);
  return Buffer.concat(await Array.fromAsync(writeSnapshotFile(headerOf(image.length), chunks)));
}

async function* inPieces(file: Uint8Array, pieceBytes: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < file.length; at += pieceBytes) yield file.subarray(at, at + pieceBytes);
}

async function read(
  file: Uint8Array,
  pieceBytes = 10_000,
): Promise<{ header: SnapshotHeader; image: Buffer; digest: string }> {
  const reader = await SnapshotFileReader.open(inPieces(file, pieceBytes));
  const image = Buffer.alloc(reader.header.sizeBytes);
  for await (const { index, bytes } of reader.chunks()) image.set(bytes, index * CHUNK);
  return { header: reader.header, image, digest: reader.imageDigest.toString("hex") };
}

/** Some data, some holes, a last chunk that is not whole. */
function sampleImage(): Buffer {
  const image = Buffer.alloc(4 * CHUNK + 1000);
  image.fill("text that compresses. ", 100, 900);
  randomBytes(500).copy(image, 2 * CHUNK + 7);
  image.set([1], image.length - 1);
  return image;
}

const isRefused = (error: unknown): boolean => error instanceof CaissonError && error.code === "INVALID_SNAPSHOT_FILE";

/** A file of frames that the test makes up, each sound by itself. */
function forge(
  header: SnapshotHeader,
  chunks: readonly { index: number; payload: Buffer; length?: number; of?: Buffer; isCompressed?: boolean }[],
): Buffer {
  const plain = (kind: "header" | "end", payload: Buffer) =>
    Buffer.concat([
      encodeHead({
        kind,
        isCompressed: false,
        length: payload.length,
        index: 0,
        crc: crc32(payload),
        id: sha256(payload),
      }),
      payload,
    ]);
  const image = createHash("sha256").update("caisson image 1\n");
  const size = Buffer.alloc(12);
  size.writeBigUInt64LE(BigInt(Math.floor(header.sizeBytes)));
  size.writeUInt32LE(header.chunkBytes, 8);
  image.update(size);
  const heads = createHash("sha256");
  const first = plain("header", encodeHeader(header));
  heads.update(first.subarray(0, HEAD_BYTES));
  const frames = chunks.map(({ index, payload, length = payload.length, of = payload, isCompressed = false }) => {
    const id = sha256(of);
    const head = encodeHead({ kind: "chunk", isCompressed, length, index, crc: crc32(payload), id });
    heads.update(head);
    const position = Buffer.alloc(8);
    position.writeBigUInt64LE(BigInt(index));
    image.update(position).update(id);
    return Buffer.concat([head, payload]);
  });
  const count = Buffer.alloc(8);
  count.writeBigUInt64LE(BigInt(chunks.length));
  return Buffer.concat([
    encodePreamble(),
    first,
    ...frames,
    plain("end", Buffer.concat([count, image.digest(), heads.digest()])),
  ]);
}

/** Where the frames of a file begin, and where the file ends. */
function framesOf(file: Buffer): readonly Buffer[] {
  const frames: Buffer[] = [];
  for (let at = PREAMBLE_BYTES; at < file.length; ) {
    const end = at + HEAD_BYTES + file.readUInt32LE(at + 4);
    frames.push(file.subarray(at, end));
    at = end;
  }
  return frames;
}

suite("a snapshot file", () => {
  test("gives back header and image, holes left out, whatever pieces it comes in", async () => {
    const sparseImage = fc
      .array(
        fc.record({
          at: fc.integer({ min: 0, max: 5 * CHUNK }),
          bytes: fc.uint8Array({ minLength: 1, maxLength: 3000 }),
        }),
        { maxLength: 6 },
      )
      .map((writes) => {
        const image = Buffer.alloc(5 * CHUNK + 4097);
        for (const { at, bytes } of writes) image.set(bytes, at);
        return image;
      });
    await fc.assert(
      fc.asyncProperty(sparseImage, fc.integer({ min: 1, max: 200_000 }), async (image, pieceBytes) => {
        const found = await read(await write(image), Math.max(pieceBytes, 200));
        assert.deepEqual(found.header, headerOf(image.length));
        assert.ok(found.image.equals(image));
      }),
      { numRuns: 40 },
    );
    assert.ok((await write(Buffer.alloc(50 * CHUNK))).length < 1000, "zeros cost nothing");
  });

  test("is written and read no further ahead than a few chunks, however slow the other side is", async () => {
    const count = 60;
    let written = 0;
    const chunks = (async function* () {
      for (let index = 0; index < count; index += 1) {
        written += 1;
        yield { index, bytes: randomBytes(CHUNK) };
      }
    })();
    const writer = writeSnapshotFile(headerOf(count * CHUNK), chunks);
    const pieces: Buffer[] = [];
    for (let piece = 0; piece < 5; piece += 1) pieces.push((await writer.next()).value ?? Buffer.alloc(0));
    assert.ok(written <= 8, `${written} chunks were read for the first ${pieces.length} pieces`);
    pieces.push(...(await Array.fromAsync(writer)));
    let read = 0;
    const reader = await SnapshotFileReader.open(
      (async function* () {
        for (const piece of pieces) {
          read += 1;
          yield piece;
        }
      })(),
    );
    assert.equal(read, 1);
    const found = reader.chunks();
    for (let chunk = 0; chunk < 4; chunk += 1) await found.next();
    assert.ok(read <= 8, `${read} pieces were read for the first 4 chunks`);
    assert.equal((await Array.fromAsync(found)).length, count - 4);
  });

  test("has one identity for one image, and another for every other one", async () => {
    const image = sampleImage();
    const { digest } = await read(await write(image));
    assert.equal((await read(await write(Buffer.from(image)))).digest, digest);
    const other = Buffer.from(image);
    other[5] = 1;
    assert.notEqual((await read(await write(other))).digest, digest);
    assert.notEqual((await read(await write(Buffer.concat([image, Buffer.alloc(1)])))).digest, digest);
  });

  test("is refused when any single bit of it is changed", async () => {
    const file = await write(sampleImage());
    for (let bit = 0; bit < file.length * 8; bit += 1) {
      const changed = Buffer.from(file);
      changed[bit >> 3] = (changed[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      await assert.rejects(read(changed, file.length), isRefused, `bit ${bit} of ${file.length * 8}`);
    }
  });

  test("is refused when it is cut anywhere, or something follows it", async () => {
    const file = await write(sampleImage());
    for (let length = 0; length < file.length; length += 1)
      await assert.rejects(read(file.subarray(0, length), file.length), isRefused, `cut after ${length} bytes`);
    await assert.rejects(read(Buffer.concat([file, Buffer.from([0])])), /something follows its end/);
    await assert.rejects(read(Buffer.concat([file, file])), isRefused);
  });

  test("is refused when its frames are in another order, twice, missing, or those of another file", async () => {
    const [file, other] = await Promise.all([write(sampleImage()), write(sampleImage())]);
    const preamble = file.subarray(0, PREAMBLE_BYTES);
    const frames = [...framesOf(file), ...framesOf(other)];
    const own = framesOf(file).length;
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.integer({ min: 0, max: frames.length - 1 }), { maxLength: own + 2 }),
        async (order) => {
          // What both files have the same of counts as the same.
          const made = Buffer.concat([preamble, ...order.flatMap((index) => frames[index] ?? [])]);
          if (made.equals(file) || made.equals(other)) return;
          await assert.rejects(read(made), isRefused);
        },
      ),
      { numRuns: 300 },
    );
    const [header, first, second, ...rest] = framesOf(file);
    assert.ok(header && first && second);
    for (const order of [
      [header, second, first, ...rest],
      [header, first, first, second, ...rest],
      [header, second, ...rest],
      [header, header, first, second, ...rest],
      [first, second, ...rest],
    ])
      await assert.rejects(read(Buffer.concat([preamble, ...order])), isRefused);
  });

  test("is refused when it is arbitrary bytes, with a sound beginning or without", async () => {
    const file = await write(sampleImage());
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 400 }), fc.nat({ max: file.length - 1 }), async (noise, kept) => {
        await assert.rejects(read(noise), isRefused);
        const made = Buffer.concat([file.subarray(0, kept), noise]);
        if (!made.equals(file)) await assert.rejects(read(made), isRefused);
      }),
      { numRuns: 200 },
    );
  });

  test("says what to do with a file of a later version, and with what is none", async () => {
    const file = await write(sampleImage());
    const later = Buffer.from(file);
    later.writeUInt32LE(2, PREAMBLE_BYTES - 4);
    await assert.rejects(read(later), /version 2 of the format, and this server reads version 1. Use a server/);
    await assert.rejects(read(Buffer.alloc(5000)), /does not begin as one.*raw/);
  });
});

suite("a hostile snapshot file, with every checksum right,", () => {
  const header = headerOf(4 * CHUNK);
  const data = Buffer.alloc(CHUNK, 7);

  test("is taken where it is what a writer could have written", async () => {
    const { image } = await read(
      forge(header, [
        { index: 1, payload: data },
        { index: 3, payload: zstdCompressSync(data), of: data, isCompressed: true },
      ]),
    );
    assert.ok(image.subarray(CHUNK, 2 * CHUNK).equals(data) && image.subarray(3 * CHUNK).equals(data));
  });

  test("makes no more of a chunk than its size, however much it would decompress to", async () => {
    const zeroes = Buffer.alloc(2 ** 26);
    const bomb = zstdCompressSync(zeroes);
    assert.ok(bomb.length < CHUNK);
    await assert.rejects(
      read(forge(header, [{ index: 0, payload: bomb, of: zeroes, isCompressed: true }])),
      (error: Error) => isRefused(error) && (error.cause as NodeJS.ErrnoException).code === "ERR_BUFFER_TOO_LARGE",
    );
  });

  test("gets no memory for a window that no chunk needs", async () => {
    // A frame of one block that says 64 KiB times the same byte, and that 128 MiB before it may be referred to.
    const block = 1 | (1 << 1) | (CHUNK << 3);
    const payload = Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0, 17 << 3, block & 255, (block >> 8) & 255, block >> 16, 7]);
    await assert.rejects(
      read(forge(header, [{ index: 0, payload, of: data, isCompressed: true }])),
      (error: Error) => isRefused(error) && /too much memory/.test(String(error.cause)),
    );
  });

  for (const [what, chunks] of Object.entries({
    "a chunk behind the end of the image": [{ index: 4, payload: data }],
    "a chunk far behind it": [{ index: 2 ** 53, payload: data }],
    "two chunks in one place": [
      { index: 1, payload: data },
      { index: 1, payload: data },
    ],
    "chunks in the wrong order": [
      { index: 2, payload: data },
      { index: 1, payload: data },
    ],
    "a chunk that is too short": [{ index: 0, payload: data.subarray(1) }],
    "a chunk that is too long": [{ index: 0, payload: Buffer.concat([data, data]) }],
    "a chunk of zeros": [{ index: 0, payload: Buffer.alloc(CHUNK) }],
    "a chunk of nothing": [{ index: 0, payload: Buffer.alloc(0) }],
    "a length of gigabytes": [{ index: 0, payload: data, length: 0xffff_fff0 }],
    "what says that it is compressed and is not": [
      { index: 0, payload: data.subarray(1), of: data, isCompressed: true },
    ],
    "another content than its hash": [{ index: 0, payload: data, of: Buffer.alloc(CHUNK, 8) }],
  }))
    test(`is refused for ${what}`, () => assert.rejects(read(forge(header, chunks)), isRefused));

  for (const [what, changed] of Object.entries({
    "a size of nothing": { sizeBytes: 0 },
    "a size beyond all bounds": { sizeBytes: 2 ** 52 },
    "a size that is no whole number": { sizeBytes: 1.5 },
    "chunks of gigabytes": { chunkBytes: 2 ** 30 },
    "chunks of a size that is no power of two": { chunkBytes: 100_000 },
    "a file system larger than the image": { fileSystem: { type: "ext4", uuid: "0".repeat(32), sizeBytes: 2 ** 40 } },
    "another file system": { fileSystem: { type: "xfs", uuid: "0".repeat(32), sizeBytes: 1 } },
    "labels beyond the limits": { labels: { a: "x".repeat(1000) } },
    "a slug that is none": { slug: "../etc" },
    "an origin that is none": { origin: null },
    "a time that is none": { createdAt: "yesterday" },
  }))
    test(`is refused for ${what}`, () =>
      assert.rejects(read(forge({ ...header, ...changed } as unknown as SnapshotHeader, [])), isRefused));

  test("is refused for a header of more than 64 KiB", async () => {
    const large = { ...header, more: "x".repeat(70_000) };
    await assert.rejects(read(forge(large, [])), /does not begin with a header/);
  });
});
