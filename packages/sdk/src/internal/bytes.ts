import { Buffer } from "node:buffer";

/** Bytes that own their memory, so that a stream may transfer it. */
export type Bytes = Uint8Array<ArrayBuffer>;

/** Decodes standard base64 into memory of its own; Node's pooled buffers must not be handed to byte streams. */
export function decodeBase64(text: string): Bytes {
  const buffer = Buffer.allocUnsafeSlow(Buffer.byteLength(text, "base64"));
  const length = buffer.write(text, "base64");
  return new Uint8Array(buffer.buffer, 0, length);
}

/** Encodes as standard padded base64. */
export function encodeBase64(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("base64");
}
