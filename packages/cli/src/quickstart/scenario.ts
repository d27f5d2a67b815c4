import type { Client } from "@caisson/sdk";
import type { Steps } from "./steps.ts";

export const REGION = "ord";
const SLUG = "quickstart-dataset";
const DIRECTORY = "/data/dataset";
const FILE = `${DIRECTORY}/hello.txt`;
const CONTENT = "Persist me!";

/** Caisson's main job: a file outlives the sandbox that wrote it. Returns what the second sandbox read. */
export async function runScenario(client: Client, steps: Steps, signal: AbortSignal): Promise<string> {
  const labels = { job: "quickstart" };
  const options = { region: REGION, labels, signal };
  const volume = await steps.run(`create a volume of 1 GB: ${SLUG}`, () =>
    client.volumes.create({ slug: SLUG, region: REGION, capacity: "1GB" }, { signal }),
  );

  const writer = await steps.run(`create a sandbox with the volume at ${DIRECTORY}`, () =>
    client.sandboxes.create({ ...options, volumes: { [DIRECTORY]: volume.slug } }),
  );
  try {
    await steps.run("write hello.txt to it", () => writer.fs.writeTextFile(FILE, CONTENT, { signal }));
  } finally {
    await steps.run("end the sandbox: the volume is durable and free", () => writer.close());
  }

  const reader = await steps.run("create a second sandbox with the volume, by its id", () =>
    client.sandboxes.create({ ...options, volumes: { [DIRECTORY]: volume.id } }),
  );
  try {
    return await steps.run("read hello.txt there", () => reader.fs.readTextFile(FILE, { signal }));
  } finally {
    await steps.run("end the second sandbox", () => reader.close());
  }
}
