import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { rm } from "node:fs/promises";
import type { Client } from "@caisson/sdk";
import { CliError } from "../cli-error.ts";
import type { Context } from "../context.ts";
import { EXIT, exitCodeOfSignal } from "../exit-codes.ts";
import { hostText, SshFiles } from "./ssh-files.ts";

const NAME = "caisson";
/** Those at the keyboard reach `ssh` by themselves; the others are passed on. */
const KEYS: readonly NodeJS.Signals[] = ["SIGINT", "SIGQUIT"];
const PASSED: readonly NodeJS.Signals[] = ["SIGTERM", "SIGHUP"];

/**
 * Runs the system's `ssh` into a sandbox and returns its exit code. It logs in by a user name that is made for it and revoked afterwards; the name is a
 * credential, so it stands in a file for the owner alone and not among the arguments, which everybody on the machine can see.
 */
export async function runSsh(context: Context, client: Client, id: string, words: readonly string[]): Promise<number> {
  const files = new SshFiles(context.configPath);
  const known = await files.writeKnownHost(await client.ssh.endpoint());
  const { username } = await client.ssh.create(id);
  try {
    const options = {
      ...known,
      User: username,
      BatchMode: "yes",
      IdentityFile: "none",
      IdentityAgent: "none",
      LogLevel: "ERROR",
    };
    const path = await files.write(`config-${process.pid}`, hostText([NAME], options));
    try {
      return await waitFor(spawn("ssh", ["-F", path, NAME, ...words], { stdio: "inherit" }));
    } finally {
      await rm(path, { force: true });
    }
  } finally {
    // With the sandbox it is gone already.
    await client.ssh.revoke(id, username).catch(() => undefined);
  }
}

async function waitFor(child: ChildProcess): Promise<number> {
  const ignore = (): void => undefined;
  const pass = (signal: NodeJS.Signals): void => void child.kill(signal);
  for (const signal of KEYS) process.on(signal, ignore);
  for (const signal of PASSED) process.on(signal, pass);
  try {
    const [code, signal] = (await once(child, "exit")) as [number | null, NodeJS.Signals | null];
    return code ?? (signal === null ? EXIT.failure : exitCodeOfSignal(signal));
  } catch (error) {
    if (!(error instanceof Error && "code" in error && error.code === "ENOENT")) throw error;
    const hint = "Install OpenSSH's client, for example: apt-get install openssh-client. Or use: caisson shell";
    throw new CliError("SSH_NOT_INSTALLED", EXIT.failure, "The program `ssh` is not on this machine", hint, {
      cause: error,
    });
  } finally {
    for (const signal of KEYS) process.off(signal, ignore);
    for (const signal of PASSED) process.off(signal, pass);
  }
}
