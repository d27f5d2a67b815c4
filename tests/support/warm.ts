import { Sandbox } from "@deno/sandbox";
import { eventually } from "./eventually.ts";
import type { TestServer } from "./server.ts";

type Options = NonNullable<Parameters<typeof Sandbox.create>[0]>;

/** Whether a sandbox was made of a container that waited; the server must log at level debug. */
export function isWarm(server: TestServer, { id }: Sandbox): boolean {
  const line = server
    .logText()
    .split("\n")
    .find((text) => text.includes('"sandbox created"') && text.includes(`"${id}"`));
  return line?.includes('"step":"configure"') ?? false;
}

/** Creates sandboxes until one is warm, and returns that one. */
export async function createWarm(server: TestServer, options: Options): Promise<Sandbox> {
  return await eventually("a warm sandbox", async () => {
    const sandbox = await Sandbox.create(options);
    if (isWarm(server, sandbox)) return sandbox;
    await sandbox.kill();
    return null;
  });
}
