import assert from "node:assert/strict";
import { ConnectionEstablishmentError, Sandbox } from "@deno/sandbox";
import { killSandbox } from "./kill-sandbox.ts";
import type { TestServer } from "./server.ts";

type SandboxOptions = NonNullable<Parameters<typeof Sandbox.create>[0]>;

/** Shorthands over one test server. */
export class TestClient {
  readonly server: TestServer;

  constructor(server: TestServer) {
    this.server = server;
  }

  /** A REST call that must succeed; `extended` asks for Caisson's own form. */
  async rest<T = Record<string, unknown>>(
    method: string,
    path: string,
    json?: unknown,
    headers: Record<string, string> = {},
  ): Promise<T> {
    const response = await this.server.request(path, { method, json, headers });
    const text = await response.text();
    assert.ok(response.ok, `${method} ${path}: ${response.status} ${text}`);
    return (text === "" ? null : JSON.parse(text)) as T;
  }

  extended<T = Record<string, unknown>>(method: string, path: string, json?: unknown): Promise<T> {
    return this.rest<T>(method, path, json, { accept: "application/vnd.caisson+json" });
  }

  /** A REST call that must be refused: returns `<status> <code>` and the message. */
  async refused(
    method: string,
    path: string,
    json?: unknown,
    headers: Record<string, string> = {},
  ): Promise<readonly [string, string]> {
    const response = await this.server.request(path, { method, json, headers });
    const body = (await response.json()) as { code: string; message: string };
    assert.deepEqual(Object.keys(body).sort(), ["code", "message"], `${method} ${path}`);
    return [`${response.status} ${body.code}`, body.message];
  }

  createVolume(slug: string, values: object = {}): Promise<{ id: string; slug: string; capacity: number }> {
    return this.rest("POST", "/api/v2/volumes", { slug, region: "ord", capacity: "300MB", ...values });
  }

  snapshot(volume: string, slug: string): Promise<{ id: string }> {
    return this.rest("POST", `/api/v2/volumes/${volume}/snapshot`, { slug });
  }

  async with<T>(options: SandboxOptions, work: (sandbox: Sandbox) => Promise<T>): Promise<T> {
    const sandbox = await Sandbox.create(options);
    try {
      return await work(sandbox);
    } finally {
      await killSandbox(this.server, sandbox.id);
    }
  }

  /** What a create that must be refused says: `<status> <code>` and the message. */
  async createRefused(options: SandboxOptions): Promise<readonly [string, string]> {
    try {
      const sandbox = await Sandbox.create(options);
      await killSandbox(this.server, sandbox.id);
    } catch (error) {
      assert.ok(error instanceof ConnectionEstablishmentError, String(error));
      return [`${error.status} ${error.code}`, error.message];
    }
    throw new assert.AssertionError({ message: "the sandbox was created" });
  }
}

/** Runs a shell command and returns its output without the last line break. */
export async function shell(sandbox: Sandbox, command: string): Promise<string> {
  const child = await sandbox.spawn("bash", { args: ["-c", command], stdout: "piped", stderr: "piped" });
  const { stdoutText, stderrText, status } = await child.output();
  assert.ok(status.success, `${command}: ${status.code} ${stderrText}`);
  return (stdoutText ?? "").replace(/\n$/, "");
}
