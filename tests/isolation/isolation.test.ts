import { after, before, suite } from "node:test";
import { Sandbox } from "@deno/sandbox";
import { TestServer } from "../support/server.ts";
import { testAttempts } from "./attempts.ts";
import { deviceAttempts, kernelFileAttempts, mountAttempts } from "./file-system-attempts.ts";
import { namespaceAttempts, privilegeAttempts, processAttempts, systemCallAttempts } from "./kernel-attempts.ts";

/** Attempts to get out of a sandbox, each of which must be refused in the way that it names. */
suite("isolation", () => {
  let server: TestServer;
  let sandbox: Sandbox;

  before(async () => {
    server = await TestServer.start();
    Object.assign(process.env, server.clientEnv());
    sandbox = await Sandbox.create();
  });
  after(async () => {
    await sandbox?.kill();
    await server?.[Symbol.asyncDispose]();
  });

  suite("mounts", () => testAttempts(mountAttempts, () => sandbox));
  suite("devices", () => testAttempts(deviceAttempts, () => sandbox));
  suite("files of the kernel", () => testAttempts(kernelFileAttempts, () => sandbox));
  suite("namespaces", () => testAttempts(namespaceAttempts, () => sandbox));
  suite("privileges", () => testAttempts(privilegeAttempts, () => sandbox));
  suite("processes", () => testAttempts(processAttempts, () => sandbox));
  suite("system calls", () => testAttempts(systemCallAttempts, () => sandbox));
});
