import { AppError } from "../calls/errors.ts";
import { DEFAULT_SEARCH_PATH, findCommand } from "../processes/resolve-command.ts";

const HOST = "127.0.0.1";

/** How one start of an editor differs from another. */
export interface EditorStart {
  readonly port: number;
  /** The directory that it opens, absolute. */
  readonly directory: string;
}

/** A program of the sandbox that serves VS Code to browsers. */
export interface EditorProgram {
  readonly command: string;
  /** Where it keeps the settings of the machine. */
  readonly settingsPath: string;
  readonly extensionsDirectory: string;
  /** A path that it answers as soon as it serves. */
  readonly readyPath: string;
  /** Variables that it must not take from its surroundings. */
  readonly env: Readonly<Record<string, string>>;
  serve(start: EditorStart): readonly string[];
  /** Installs an extension and ends: an id, or the path of a `.vsix` file. */
  install(extension: string): readonly string[];
}

/**
 * The editor of this sandbox: code-server, or else openvscode-server. The address of its preview is the secret that lets people in, as with the hosted
 * service (protocol.md 4.7), so neither asks for a password. Throws `NotSupported` when there is none.
 */
export function findEditor(variables: Readonly<Record<string, string>>, directory: string): EditorProgram {
  const searchPath = variables.PATH ?? DEFAULT_SEARCH_PATH;
  const home = variables.HOME ?? directory;
  const codeServer = findCommand("code-server", searchPath, directory);
  if (codeServer !== null) return asCodeServer(codeServer, variables.XDG_DATA_HOME || `${home}/.local/share`);
  const openVscodeServer = findCommand("openvscode-server", searchPath, directory);
  if (openVscodeServer !== null) return asOpenVscodeServer(openVscodeServer, home);
  throw new AppError(
    "NotSupported",
    "Cannot start VS Code: this sandbox has neither code-server nor openvscode-server on its PATH. Create it from a snapshot that has one, by the " +
      'recipe in docs/vscode.md, or connect your own VS Code by its extension Remote-SSH ("Remote-SSH" in the same file)',
  );
}

function asCodeServer(command: string, dataHome: string): EditorProgram {
  const data = `${dataHome}/code-server`;
  // Settings of the user's own could make it ask for a password, or speak TLS.
  const common = ["--config=/dev/null", `--user-data-dir=${data}`];
  return {
    command,
    settingsPath: `${data}/Machine/settings.json`,
    extensionsDirectory: `${data}/extensions`,
    readyPath: "/healthz",
    // It would open the directory in the editor whose terminal this is, and end.
    env: { VSCODE_IPC_HOOK_CLI: "" },
    serve: ({ port, directory }) => [
      ...common,
      "--auth=none",
      // Unlike --bind-addr, these two go before the variable PORT.
      `--host=${HOST}`,
      `--port=${port}`,
      "--disable-telemetry",
      "--disable-update-check",
      "--disable-workspace-trust",
      "--ignore-last-opened",
      directory,
    ],
    install: (extension) => [...common, `--install-extension=${extension}`],
  };
}

function asOpenVscodeServer(command: string, home: string): EditorProgram {
  const data = `${home}/.openvscode-server`;
  const common = ["--accept-server-license-terms", `--server-data-dir=${data}`];
  return {
    command,
    settingsPath: `${data}/data/Machine/settings.json`,
    extensionsDirectory: `${data}/extensions`,
    readyPath: "/version",
    env: {},
    serve: ({ port, directory }) => [
      ...common,
      `--host=${HOST}`,
      `--port=${port}`,
      "--without-connection-token",
      "--telemetry-level=off",
      `--default-folder=${directory}`,
    ],
    install: (extension) => [...common, `--install-extension=${extension}`],
  };
}
