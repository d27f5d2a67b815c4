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
import type { Sandbox } from "../host/sandbox.ts";
import type { ProcessTable } from "./process-table.ts";

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

/** Whether the pid is an editor's: those have pids of their own (protocol.md 4.7). */
const vscode = defaulted(boolean, false);

function tableOf({ editors, processes }: Sandbox, isEditor: boolean): ProcessTable {
  return isEditor ? editors.processes : processes;
}

export const processMethods = {
  spawn: method({ ...processShape, command: string, args: defaulted(arrayOf(string), []) }, (params, call) => {
    const { pid, stdoutStreamId, stderrStreamId } = call.sandbox.processes.spawn(params, call);
    return { pid, stdoutStreamId, stderrStreamId };
  }),
  processWait: method({ pid: integer, vscode }, ({ pid, vscode }, { sandbox, connection }) =>
    tableOf(sandbox, vscode).wait(pid, connection),
  ),
  processKill: method({ pid: integer, signal: defaulted(string, "SIGTERM"), vscode }, (params, { sandbox }) => {
    tableOf(sandbox, params.vscode).kill(params.pid, params.signal);
  }),
} satisfies MethodTable;
