import { AppError } from "../calls/errors.ts";
import { type MethodTable, method } from "../calls/method.ts";
import {
  arrayOf,
  boolean,
  defaulted,
  integer,
  oneOf,
  optional,
  recordOf,
  string,
  type Validator,
} from "../calls/params.ts";

/**
 * Where output goes. `"inherit"` is a mode of clients, who ask for a pipe then; Python's REPL alone lets the word through
 * (protocol.md 4.4).
 */
export const outputMode: Validator<"piped" | "null"> = (value, path, issues) =>
  value === "inherit" ? "piped" : oneOf("piped", "null")(value, path, issues);

/** Parameters that all ways to start a process share. */
export const processShape = {
  env: defaulted(recordOf(string), {}),
  clearEnv: defaulted(boolean, false),
  cwd: optional(string),
  stdinStreamId: optional(integer),
  stdout: outputMode,
  stderr: outputMode,
} as const;

/** The separate pids of editors, which nothing here has. */
const vscode = defaulted(boolean, false);

function refuseEditor(isEditor: boolean): void {
  if (isEditor) throw new AppError("TypeError", "There is no VS Code process: this server does not offer it", "ENOENT");
}

export const processMethods = {
  spawn: method({ ...processShape, command: string, args: defaulted(arrayOf(string), []) }, (params, call) => {
    const { pid, stdoutStreamId, stderrStreamId } = call.sandbox.processes.spawn(params, call);
    return { pid, stdoutStreamId, stderrStreamId };
  }),
  processWait: method({ pid: integer, vscode }, (params, { sandbox, connection }) => {
    refuseEditor(params.vscode);
    return sandbox.processes.wait(params.pid, connection);
  }),
  processKill: method({ pid: integer, signal: defaulted(string, "SIGTERM"), vscode }, (params, { sandbox }) => {
    refuseEditor(params.vscode);
    sandbox.processes.kill(params.pid, params.signal);
  }),
} satisfies MethodTable;
