import type { Sandbox } from "@deno/sandbox";

/** Runs a shell command that must succeed. */
export async function run(sandbox: Sandbox, command: string): Promise<void> {
  const child = await sandbox.spawn("sh", { args: ["-c", command], stdout: "null", stderr: "null" });
  const { success } = await child.status;
  if (!success) throw new Error(`${command} failed`);
}
