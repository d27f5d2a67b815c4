import type * as Sdk from "@caisson/sdk";
import type { Client } from "@caisson/sdk";
import type { Output } from "./output/output.ts";
import { type ClientFlags, type ClientSettings, resolveClientSettings } from "./settings/client-options.ts";
import { configPath, readConfigFile } from "./settings/config-file.ts";

/** Options that stand before or after any command. */
export interface CommonFlags extends ClientFlags {
  readonly config?: string;
  readonly json?: boolean;
  readonly quiet?: boolean;
  readonly nonInteractive?: boolean;
  readonly debug?: boolean;
}

let loadedSdk: typeof Sdk | undefined;

/** Loads the library when it is needed, so that help and completion come up at once. */
export async function loadSdk(): Promise<typeof Sdk> {
  loadedSdk ??= await import("@caisson/sdk");
  return loadedSdk;
}

/** The library if {@linkcode loadSdk} was called. */
export function sdkIfLoaded(): typeof Sdk | undefined {
  return loadedSdk;
}

/** What a command has at hand. */
export class Context {
  readonly output: Output;
  readonly flags: CommonFlags;
  readonly environment: NodeJS.ProcessEnv;

  constructor(output: Output, flags: CommonFlags, environment: NodeJS.ProcessEnv) {
    this.output = output;
    this.flags = flags;
    this.environment = environment;
  }

  get configPath(): string {
    return configPath(this.flags.config, this.environment);
  }

  async settings(): Promise<ClientSettings> {
    const path = this.configPath;
    const config = await readConfigFile(path, (mode) => {
      this.output.warn(`others can read the tokens in ${path} (mode ${mode}): chmod 600 ${path}`);
    });
    return resolveClientSettings(this.flags, this.environment, config);
  }

  /** Whether a terminal session can be opened: a person is there, and did not ask for none. */
  get isInteractive(): boolean {
    return (
      process.stdin.isTTY === true && process.stdout.isTTY === true && !this.flags.nonInteractive && !this.output.isJson
    );
  }

  /** A client with the settled credentials, and the organization that was named, if any. */
  async connect(): Promise<{ readonly sdk: typeof Sdk; readonly client: Client; readonly settings: ClientSettings }> {
    const settings = await this.settings();
    const sdk = await loadSdk();
    return { sdk, client: new sdk.Client(settings.options), settings };
  }
}
