import { AppError } from "../calls/errors.ts";
import { type Call, type MethodTable, method } from "../calls/method.ts";
import { any, arrayOf, boolean, defaulted, optional, recordOf, type ShapeOf, string } from "../calls/params.ts";
import { resolvePath } from "../files/paths.ts";

const vscodeShape = {
  path: string,
  extensions: defaulted(arrayOf(string), []),
  env: defaulted(recordOf(string), {}),
  preview: optional(string),
  // Of a button that no editor here has.
  disableStopButton: optional(boolean),
  editorSettings: optional(recordOf(any)),
};

/** The editor (protocol.md 4.7). */
export const editorMethods = { vscode: method(vscodeShape, vscode) } satisfies MethodTable;

function vscode({ path, extensions, env, preview, editorSettings }: ShapeOf<typeof vscodeShape>, call: Call) {
  if (preview !== undefined) {
    throw new AppError(
      "NotSupported",
      `Cannot show ${preview} beside the editor: this server's editors have no such window. Leave "preview" out, and open the page in a tab of its own`,
    );
  }
  if (/^\/*$/.test(path)) throw new AppError("TypeError", 'Cannot open an editor on "/": name a directory below it');
  const directory = resolvePath(call.sandbox, path);
  return call.sandbox.editors.start({ directory, extensions, env, settings: editorSettings }, call);
}
