import { AppError } from "../calls/errors.ts";
import { type Call, type MethodTable, method } from "../calls/method.ts";
import {
  any,
  arrayOf,
  boolean,
  count,
  defaulted,
  object,
  oneOf,
  optional,
  recordOf,
  type ShapeOf,
  string,
  union,
  validate,
} from "../calls/params.ts";
import { directoryUrl, resolvePath } from "../files/paths.ts";
import { EndedPids } from "../network/ended-pids.ts";
import { HttpServerWatch } from "../network/http-server-watch.ts";
import type { SandboxProcess } from "../processes/process-table.ts";
import { type DenoProgram, programFromCode, programFromEntrypoint } from "./deno-program.ts";
import { DenoWatcher } from "./deno-watcher.ts";
import { PrivateSocket } from "./private-socket.ts";
import { endedReplError, Repl } from "./repl.ts";
import { runReplDriver } from "./repl-driver.ts";
import { REPL_KEY } from "./repl-source.ts";

/** Python's `repl` sends `inherit`, which is the client's affair: it is fed by a pipe (protocol.md 4.4). */
const output = oneOf("piped", "null", "inherit");

const processShape = {
  env: defaulted(recordOf(string), {}),
  clearEnv: defaulted(boolean, false),
  cwd: optional(string),
  stdinStreamId: optional(count),
  stdout: output,
  stderr: output,
  scriptArgs: defaulted(arrayOf(string), []),
};

const programShape = {
  ...processShape,
  entrypoint: optional(string),
  watch: defaulted(union(boolean, arrayOf(string)), false),
  code: optional(string),
  extension: defaulted(oneOf("js", "cjs", "mjs", "ts", "cts", "mts", "jsx", "tsx"), "ts"),
};

const entrypointOnly = object({ entrypoint: string });

export const denoMethods = {
  spawnDeno: method(programShape, spawnDeno),
  spawnDenoRepl: method(processShape, spawnDenoRepl),
  denoHttpWait: method(
    { pid: count },
    ({ pid }, { sandbox }) => HttpServerWatch.of(sandbox.processes.get(pid)).listening,
  ),
  denoReplEval: method({ pid: count, code: string }, ({ pid, code }, call) => activeRepl(pid, call).evaluate(code)),
  denoReplCall: method({ pid: count, fn: string, args: arrayOf(any) }, ({ pid, fn, args }, call) =>
    activeRepl(pid, call).call(fn, args),
  ),
  denoReplClose: method({ pid: count }, ({ pid }, call) => closeRepl(pid, call)),
} satisfies MethodTable;

async function spawnDeno(params: ShapeOf<typeof programShape>, call: Call) {
  const { entrypoint, code, extension, watch } = params;
  if (code !== undefined) {
    const program = await programFromCode(code, extension, workingDirectory(params, call));
    return { ...started(await start(program, params, call)), watcherId: null };
  }
  const program = programFromEntrypoint(validate(entrypointOnly, { entrypoint }).entrypoint);
  if (watch === false) return { ...started(await start(program, params, call)), watcherId: null };
  const watcher = await DenoWatcher.open(watch === true ? [] : watch);
  const process = await start(watcher.watching(program), params, call);
  void watcher.report(call.connection);
  return { ...started(process), watcherId: watcher.id };
}

const repls = new Map<number, Repl>();
const endedRepls = new EndedPids();

async function spawnDenoRepl(params: ShapeOf<typeof processShape>, call: Call) {
  const socket = await PrivateSocket.open();
  const baseUrl = directoryUrl(workingDirectory(params, call));
  const inputs = [socket.path, REPL_KEY, baseUrl].map((input) => JSON.stringify(input));
  const args = ["eval", "--ext=mjs", `await (${runReplDriver})(${inputs.join(", ")});`];
  const process = await start({ args, dispose: () => socket.close() }, params, call);
  repls.set(process.pid, new Repl(process, () => killIfRunning(process.pid, call), socket, baseUrl));
  void process.exited.then(() => {
    endedRepls.add(process.pid);
    repls.delete(process.pid);
  });
  return started(process);
}

/** Starts the sandbox's Deno, and disposes of the program when the process has ended or could not be started. */
async function start(program: DenoProgram, params: ShapeOf<typeof processShape>, call: Call): Promise<SandboxProcess> {
  const { env, clearEnv, cwd, stdinStreamId, stdout, stderr, scriptArgs } = params;
  const { processes, settings } = call.sandbox;
  const dispose = () =>
    program.dispose().catch((error) => console.error("Cannot remove what a Deno program left:", error));
  const pipes = { stdinStreamId, stdout: piped(stdout), stderr: piped(stderr) };
  const command = { command: settings.denoPath, args: [...program.args, ...scriptArgs], env, clearEnv, cwd };
  try {
    const process = processes.spawn({ ...command, ...pipes }, call);
    void process.exited.then(dispose);
    return process;
  } catch (error) {
    await dispose();
    throw error;
  }
}

function started({ pid, stdoutStreamId, stderrStreamId }: SandboxProcess) {
  return { pid, stdoutStreamId, stderrStreamId };
}

function piped(mode: "piped" | "null" | "inherit"): "piped" | "null" {
  return mode === "null" ? "null" : "piped";
}

function workingDirectory({ cwd }: { readonly cwd: string | undefined }, { sandbox }: Call): string {
  return cwd === undefined ? sandbox.settings.defaultDirectory : resolvePath(sandbox, cwd);
}

function killIfRunning(pid: number, { sandbox }: Call): void {
  if (sandbox.processes.get(pid).isRunning) sandbox.processes.kill(pid, "SIGKILL");
}

/** Closing one that has ended is a success: clients kill and close at the same time (protocol.md 4.5). */
async function closeRepl(pid: number, call: Call): Promise<void> {
  if (!endedRepls.has(pid)) await findRepl(pid, call).close();
}

function findRepl(pid: number, { sandbox }: Call): Repl {
  if (endedRepls.has(pid)) throw endedReplError(pid);
  const { isRunning } = sandbox.processes.get(pid);
  const repl = repls.get(pid);
  if (repl === undefined || !isRunning) {
    throw new AppError("TypeError", `Process ${pid} is not a Deno REPL. Start one with spawnDenoRepl`);
  }
  return repl;
}

/** The REPL, of which a server may come up soon. */
function activeRepl(pid: number, call: Call): Repl {
  const repl = findRepl(pid, call);
  HttpServerWatch.of(call.sandbox.processes.get(pid)).expect();
  return repl;
}
