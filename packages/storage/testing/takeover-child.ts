import { writeSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { formatFileSystem, mountVolume } from "../src/file-system.ts";
import { FrozenFileSystem } from "../src/frozen-file-system.ts";
import { LocalStorage, type LocalStorageOptions } from "../src/local/local-storage.ts";

/** A server that the takeover tests kill: it holds a mounted volume, frozen if asked, and waits to die. */
const [configuration = "", state = ""] = process.argv.slice(2);
const options = JSON.parse(configuration) as LocalStorageOptions;
const storage = await LocalStorage.open(options);
await storage.createImage("vol_held", { sizeBytes: 400 * 2 ** 20 });
const device = await storage.attach("vol_held", "rw");
await formatFileSystem(device.path, "data");
const target = join(options.directory, "held");
await mkdir(target, { recursive: true });
await mountVolume({ device: device.path, target, kind: "data", isReadOnly: false });
await writeFile(join(target, "file"), "acknowledged", { flush: true });
if (state === "frozen") await FrozenFileSystem.freeze(target, { deadlineMs: 3_600_000 });
writeSync(1, "ready\n");
setInterval(() => undefined, 1000);
