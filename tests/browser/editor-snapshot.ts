import { Sandbox } from "@deno/sandbox";
import type { TestClient } from "../support/client.ts";

const PACKAGES = "build-essential pkg-config python3 libkrb5-dev";

/** The recipe of docs/vscode.md, with the headers of the registry: returns the slug of a snapshot that has code-server. Takes many minutes. */
export async function createEditorSnapshot(client: TestClient): Promise<string> {
  await client.createVolume("editor", { capacity: "6GB", from: "builtin:debian-13" });
  const sandbox = await Sandbox.create({ root: "editor", memory: "4GiB", timeout: "30m" });
  const steps = [
    `sudo apt-get update -qq && sudo apt-get install -y -qq ${PACKAGES}`,
    `npm install --silent --prefix /tmp/headers node@$(node -p 'process.version.slice(1)')`,
    `npm_config_nodedir=$(dirname $(find /tmp/headers -type d -path '*/include' | head -1)) npm install --silent -g code-server`,
    "rm -rf /tmp/headers ~/.npm && sync",
  ];
  for (const step of steps) {
    const child = await sandbox.spawn("bash", { args: ["-c", step], stdout: "null", stderr: "null" });
    const { success } = await child.status;
    if (!success) throw new Error(`The recipe failed at: ${step}`);
  }
  await sandbox.kill();
  await client.snapshot("editor", "vscode");
  return "vscode";
}
