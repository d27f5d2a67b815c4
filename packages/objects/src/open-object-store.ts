import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { DirectoryObjects } from "./directory-objects.ts";
import type { ObjectStore } from "./object-store.ts";

/** Where a store of objects is. */
export interface ObjectStoreAddress {
  /** `s3://BUCKET/PREFIX` or `file:///DIRECTORY`. */
  readonly url: string;
  /** The rest is of S3 only. Origin of the service; null: Amazon's own. */
  readonly endpoint: string | null;
  readonly region: string | null;
  readonly isPathStyle: boolean;
  /** File with the certificates of authorities, in PEM form; null: those of the system. */
  readonly authorityPath: string | null;
}

/** Opens the driver that the URL asks for, without asking the store anything. */
export async function openObjectStore(address: ObjectStoreAddress): Promise<ObjectStore> {
  const url = new URL(address.url);
  if (url.protocol === "file:") return DirectoryObjects.open(fileURLToPath(url));
  const { endpoint, region, isPathStyle, authorityPath } = address;
  // Only who has one waits for the client of S3 to be read.
  const { S3Objects } = await import("./s3-objects.ts");
  const path = decodeURIComponent(url.pathname).replace(/^\/+|\/+$/g, "");
  return new S3Objects({
    bucket: url.hostname,
    prefix: path === "" ? "" : `${path}/`,
    ...{ endpoint, region, isPathStyle },
    authority: authorityPath === null ? null : await readFile(authorityPath, "utf8"),
  });
}
