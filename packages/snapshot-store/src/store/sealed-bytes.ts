import { createCipheriv, createDecipheriv, createHmac } from "node:crypto";

const VERSION = 1;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
/** What sealing adds. */
export const SEAL_BYTES = 1 + NONCE_BYTES + TAG_BYTES;

/**
 * Encrypts bytes with AES-256-GCM, bound to the name that they are stored under. The same bytes, key and name give the same result, so that a repeated upload replaces an object by itself: the nonce is a
 * keyed hash of name and bytes, and differs where any of them does.
 */
export function seal(key: Buffer, name: string, bytes: Uint8Array): Buffer {
  const nonce = createHmac("sha256", key)
    .update(`caisson nonce\n${name}\n`)
    .update(bytes)
    .digest()
    .subarray(0, NONCE_BYTES);
  const cipher = createCipheriv("aes-256-gcm", key, nonce);
  cipher.setAAD(Buffer.from(name));
  const sealed = [Buffer.of(VERSION), nonce, cipher.update(bytes), cipher.final(), cipher.getAuthTag()];
  return Buffer.concat(sealed);
}

/** Throws for anything but what `seal` made with the same key and name. */
export function unseal(key: Buffer, name: string, sealed: Buffer): Buffer {
  if (sealed.length < SEAL_BYTES) throw new Error("it is too short");
  if (sealed[0] !== VERSION) throw new Error(`it has version ${sealed[0]}, and this server reads version ${VERSION}`);
  const end = sealed.length - TAG_BYTES;
  const decipher = createDecipheriv("aes-256-gcm", key, sealed.subarray(1, 1 + NONCE_BYTES), {
    authTagLength: TAG_BYTES,
  });
  decipher.setAAD(Buffer.from(name));
  decipher.setAuthTag(sealed.subarray(end));
  return Buffer.concat([decipher.update(sealed.subarray(1 + NONCE_BYTES, end)), decipher.final()]);
}

/** A key for one purpose, made of another one. */
export function deriveKey(key: Buffer, purpose: string): Buffer {
  return createHmac("sha256", key).update(`caisson key\n${purpose}`).digest();
}
