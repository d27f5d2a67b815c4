import { SandboxSdkError } from "../core/errors.ts";
import type { ChildProcessOutput } from "./child-process.ts";

/** A command of `sandbox.sh` ended with a code other than zero. When its signal was aborted, `cause` is the signal's reason. */
export class SandboxCommandError extends SandboxSdkError {
  /** The exit code; 128 plus the signal's number when a signal ended it. */
  readonly code: number;
  /** How the command ended, and what it wrote to the outputs that were piped until then. */
  readonly result: ChildProcessOutput;

  constructor(message: string, result: ChildProcessOutput, options?: { readonly cause?: unknown }) {
    super(message, options);
    this.name = "SandboxCommandError";
    this.code = result.status.code;
    this.result = result;
  }
}
