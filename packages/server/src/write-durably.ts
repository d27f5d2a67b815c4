import { open, rename } from "node:fs/promises";
import { join } from "node:path";
import { step, syncDirectory } from "@caisson/linux";

/** Writes a file whole, so that a crash leaves the old one or the new one, and it is on stable storage when this resolves. `stepName`: its fault point. */
export async function writeDurably(
  directory: string,
  name: string,
  text: string,
  mode: number,
  stepName: string,
): Promise<void> {
  const path = join(directory, name);
  {
    await using file = await open(`${path}.new`, "w", mode);
    await file.chmod(mode);
    await file.writeFile(text);
    await file.sync();
  }
  await step(stepName, () => rename(`${path}.new`, path));
  await syncDirectory(directory);
}
