import { request } from "node:http";
import type { RunningSandbox } from "../src/runtime.ts";

export interface ScriptResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a shell script in the sandbox through the test agent, which offers `POST /run`. */
export async function runScript(sandbox: RunningSandbox, script: string): Promise<ScriptResult> {
  const { promise, resolve, reject } = Promise.withResolvers<ScriptResult>();
  const outgoing = request({ socketPath: sandbox.agentSocketPath, path: "/run", method: "POST", agent: false });
  outgoing.on("error", reject);
  outgoing.on("response", (response) => {
    let text = "";
    response.setEncoding("utf8");
    response.on("data", (chunk: string) => {
      text += chunk;
    });
    response.on("error", reject);
    response.on("end", () => resolve(JSON.parse(text) as ScriptResult));
  });
  outgoing.end(script);
  return promise;
}

/** Output of a script that must succeed. */
export async function readScript(sandbox: RunningSandbox, script: string): Promise<string> {
  const { code, stdout, stderr } = await runScript(sandbox, script);
  if (code !== 0) throw new Error(`Script ended with ${code}: ${script}\n${stdout}${stderr}`);
  return stdout.trim();
}
