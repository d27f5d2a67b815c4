import { createHash } from "node:crypto";
import { Agent } from "node:https";
import { setTimeout as delay } from "node:timers/promises";
import {
  DeleteObjectCommand,
  GetObjectCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  S3Client,
  S3ServiceException,
} from "@aws-sdk/client-s3";
import { step } from "@caisson/linux";
import { NodeHttpHandler } from "@smithy/node-http-handler";
import { isKey, type ObjectStore, requireKey, type StoredObject } from "./object-store.ts";
import { orAborted } from "./or-aborted.ts";
import { storeUnavailable } from "./store-error.ts";

export interface S3Options {
  readonly bucket: string;
  /** Before every key; ends with a slash unless it is empty. */
  readonly prefix: string;
  /** Origin of the service; null: Amazon's own, of the region. */
  readonly endpoint: string | null;
  /** Null: as the usual variables and files say, else `us-east-1`. */
  readonly region: string | null;
  /** `https://host/bucket` instead of `https://bucket.host`. */
  readonly isPathStyle: boolean;
  /** Certificates of authorities, in PEM form; null: those of the system. */
  readonly authority: string | null;
}

/** With the SDK's pauses, which double and are of random length, this takes some seconds. */
const ATTEMPTS = 5;
const CONNECT_TIMEOUT_MS = 10_000;
/** Nothing was heard for so long. */
const SILENCE_TIMEOUT_MS = 60_000;
const PAUSE_MS = 200;

/**
 * Objects of an S3 service. Credentials come from where every client of S3 looks for them (variables, files, the machine's role). Each put carries the MD5 of its bytes, which every service checks before
 * it stores; the newer checksums are left out, because not every service knows them. Objects are small enough for one request each.
 */
export class S3Objects implements ObjectStore {
  readonly url: string;
  readonly #client: S3Client;
  readonly #bucket: string;
  readonly #prefix: string;

  constructor({ bucket, prefix, endpoint, region, isPathStyle, authority }: S3Options) {
    this.url = `s3://${bucket}/${prefix}`;
    this.#bucket = bucket;
    this.#prefix = prefix;
    this.#client = new S3Client({
      ...(endpoint === null ? {} : { endpoint }),
      region: region ?? process.env.AWS_REGION ?? process.env.AWS_DEFAULT_REGION ?? "us-east-1",
      forcePathStyle: isPathStyle,
      maxAttempts: ATTEMPTS,
      requestChecksumCalculation: "WHEN_REQUIRED",
      responseChecksumValidation: "WHEN_REQUIRED",
      requestHandler: new NodeHttpHandler({
        connectionTimeout: CONNECT_TIMEOUT_MS,
        socketTimeout: SILENCE_TIMEOUT_MS,
        ...(authority === null ? {} : { httpsAgent: new Agent({ keepAlive: true, maxSockets: 50, ca: authority }) }),
      }),
    });
  }

  async put(key: string, bytes: Uint8Array, signal?: AbortSignal): Promise<void> {
    const command = new PutObjectCommand({
      ...this.#named(key),
      Body: bytes,
      ContentLength: bytes.length,
      ContentMD5: createHash("md5").update(bytes).digest("base64"),
    });
    await this.#attempt(signal, () => step("object-put", () => this.#client.send(command, options(signal))));
  }

  async get(key: string, maxBytes: number, signal?: AbortSignal): Promise<Buffer | null> {
    const command = new GetObjectCommand(this.#named(key));
    return this.#attempt(signal, async () => {
      // The client tries requests again, and not bodies that are cut.
      for (let attempt = 1; ; attempt += 1) {
        try {
          const { Body, ContentLength } = await this.#client.send(command, options(signal));
          if (ContentLength === undefined || ContentLength > maxBytes)
            throw new UnfitObjectError(`${key} has ${ContentLength} bytes, and at most ${maxBytes} are right`);
          const bytes = Buffer.from((await Body?.transformToByteArray()) ?? []);
          if (bytes.length === ContentLength) return bytes;
          throw new Error(`${key} ended after ${bytes.length} of ${ContentLength} bytes`);
        } catch (error) {
          if (isAbsent(error)) return null;
          const isFinal = error instanceof S3ServiceException || error instanceof UnfitObjectError;
          if (isFinal || attempt === ATTEMPTS || signal?.aborted === true) throw error;
          await delay(PAUSE_MS * 2 ** attempt * Math.random(), undefined, signal === undefined ? {} : { signal });
        }
      }
    });
  }

  async *list(prefix: string, signal?: AbortSignal): AsyncGenerator<StoredObject, void> {
    const full = `${this.#prefix}${requireKey(prefix.replace(/\/$/, ""))}/`;
    for (let token: string | undefined; ; ) {
      const command = new ListObjectsV2Command({ Bucket: this.#bucket, Prefix: full, ContinuationToken: token });
      const page = await this.#attempt(signal, () => this.#client.send(command, options(signal)));
      for (const { Key = "", Size = 0 } of page.Contents ?? []) {
        const key = Key.slice(this.#prefix.length);
        if (isKey(key)) yield { key, sizeBytes: Size };
      }
      if (page.IsTruncated !== true) return;
      token = page.NextContinuationToken;
      if (token === undefined)
        throw storeUnavailable(this.url, FAILED, `the list of ${full} breaks off without saying where to go on`);
    }
  }

  async delete(key: string, signal?: AbortSignal): Promise<void> {
    const command = new DeleteObjectCommand(this.#named(key));
    await this.#attempt(signal, () => step("object-delete", () => this.#client.send(command, options(signal))));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#client.destroy();
  }

  #named(key: string): { readonly Bucket: string; readonly Key: string } {
    return { Bucket: this.#bucket, Key: this.#prefix + requireKey(key) };
  }

  async #attempt<T>(signal: AbortSignal | undefined, work: () => Promise<T>): Promise<T> {
    try {
      return await orAborted(signal, work);
    } catch (error) {
      signal?.throwIfAborted();
      const said = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
      throw storeUnavailable(this.url, explain(error), said, error);
    }
  }
}

function options(signal: AbortSignal | undefined): { readonly abortSignal?: AbortSignal } {
  return signal === undefined ? {} : { abortSignal: signal };
}

class UnfitObjectError extends Error {}

function isAbsent(error: unknown): boolean {
  return error instanceof S3ServiceException && error.name === "NoSuchKey";
}

const FAILED = "it fails at what it is asked for. The server's log says why";

const FULL = "it is full. Make room there, or delete snapshots that it holds";

/** What to do about the answers that an administrator meets. */
const ADVICE: Readonly<Record<string, string>> = {
  CredentialsProviderError:
    "there are no credentials. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY for the server, or another of the ways that S3 clients know",
  InvalidAccessKeyId: "it does not know the access key. Give the server new credentials",
  SignatureDoesNotMatch: "the secret key is wrong. Give the server new credentials",
  ExpiredToken: "the credentials have expired. Give the server new ones",
  AccessDenied: "the credentials may not do this. They need to get, put, delete and list objects",
  NoSuchBucket: "there is no such bucket. Make it, or correct snapshot_store.url",
  QuotaExceeded: "it is full. Raise its quota, or delete snapshots that it holds",
  XMinioStorageFull: FULL,
};

function explain(error: unknown): string {
  const known = error instanceof Error ? ADVICE[error.name] : undefined;
  if (known !== undefined) return known;
  if (error instanceof UnfitObjectError) return FAILED;
  if (!(error instanceof S3ServiceException))
    return "it cannot be reached, or does not answer. The server's log says why";
  const status = error.$metadata.httpStatusCode ?? 0;
  if (status === 507) return FULL;
  return status >= 500 || status === 429 ? FAILED : "it refuses what it is asked for. The server's log says why";
}
