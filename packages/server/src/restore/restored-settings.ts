import type { BackupFile } from "@caisson/snapshot-store";
import { parse, stringify } from "smol-toml";
import { SETTINGS } from "../app/backups/backup-files.ts";

/** Where the store is, as the settings say it. */
export type StoreAddressTable = Readonly<
  Record<"url" | "endpoint" | "region" | "path_style" | "ca", string | boolean | undefined>
>;

export interface RestoredSettings {
  readonly text: string;
  /** The text that the backup has, where the address of the store is another one now; null: it is the same. */
  readonly formerText: string | null;
  /** Whether the rows were in a PostgreSQL database. */
  readonly hadDatabase: boolean;
}

/** The settings of a backup, with the store at the place where it was restored from. */
export function restoredSettings(files: readonly BackupFile[], address: StoreAddressTable): RestoredSettings {
  const former = files.find(({ path }) => path === SETTINGS)?.bytes.toString() ?? "";
  const settings = parse(former);
  const { url, endpoint, region, path_style, ca, ...rest } = (settings.snapshot_store ?? {}) as Record<string, unknown>;
  const hadDatabase = settings.database !== undefined;
  const given = Object.entries(address).filter(([, value]) => value !== undefined);
  const had = Object.entries({ url, endpoint, region, path_style, ca }).filter(([, value]) => value !== undefined);
  const isSame = JSON.stringify(given) === JSON.stringify(had);
  if (isSame) return { text: former, formerText: null, hadDatabase };
  const table = { ...Object.fromEntries(given), ...rest };
  return { text: stringify({ ...settings, snapshot_store: table }), formerText: former, hadDatabase };
}
