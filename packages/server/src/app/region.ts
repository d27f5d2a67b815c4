import type { ReadyQueue } from "@caisson/linux";
import type { ScratchDisk, StorageDriver } from "@caisson/storage";
import type { RoomMaker } from "./disks/room.ts";
import type { BlankVolumes } from "./volumes/blank-volumes.ts";
import type { RootMounts } from "./volumes/root-mounts.ts";
import type { VolumeMounts } from "./volumes/volume-mounts.ts";

/** A failure and placement domain with its own storage pool, and what this host has mounted from that pool. */
export interface Region {
  readonly name: string;
  readonly storage: StorageDriver;
  /** Base images by their name, `builtin:debian-13`. */
  readonly baseImages: ReadonlyMap<string, BaseImage>;
  readonly roots: RootMounts;
  readonly volumes: VolumeMounts;
  /** What new volumes begin with. */
  readonly blanks: BlankVolumes;
  /** Making one takes several milliseconds, and one that waits costs only its metadata. */
  readonly scratch: ReadyQueue<ScratchDisk>;
  /** Frees what can be freed when the pool needs room. */
  readonly room: RoomMaker;
  /** Images in the pool that belong to the server itself. */
  readonly ownImageIds: ReadonlySet<string>;
}

export interface BaseImage {
  /** Name on the wire, for example `builtin:debian-13`. */
  readonly name: string;
  /** Image in the pool; it carries the key of the image's content. */
  readonly imageId: string;
  readonly sizeBytes: number;
}

/** What a sandbox without `root` boots from. */
export const DEFAULT_BASE_IMAGE = "builtin:debian-13";
