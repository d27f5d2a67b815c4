import { AppError } from "../calls/errors.ts";
import { type MethodTable, method } from "../calls/method.ts";

/** Exposure and the editor are not offered yet; both say so clearly (protocol.md 4.7). */
export const exposureMethods = {
  exposeHttp: method({}, () => {
    throw new AppError("NotSupported", "Cannot expose a port over HTTP: this server does not offer it yet");
  }),
  vscode: method({}, () => {
    throw new AppError("NotSupported", "Cannot start VS Code: this server does not offer it");
  }),
} satisfies MethodTable;
