import type { Region, SandboxEndpointOptions } from "../core/configuration.ts";
import type { Duration, Memory } from "../core/limits.ts";

/** An environment variable whose value never enters the sandbox; it is put in on the wire of HTTPS requests to its hosts. */
export interface SecretConfig {
  /** Hosts that may receive the value, at least one, for example `["api.example.com"]`. */
  hosts: string[];
  /** The value. */
  value: string;
}

/** A volume to mount, and how. */
export interface VolumeMountConfig {
  /** Id or slug of the volume. */
  volume: string;
  /** Mount without the right to write; any number of sandboxes may do so at a time. Default: false. */
  readOnly?: boolean;
}

/** Options of `Sandbox.connect`. */
export interface ConnectOptions extends SandboxEndpointOptions {
  /** Write what happens to the connection to the console. Default: false. */
  debug?: boolean;
  /** Ends the attempt. Has no part in what happens after it. */
  signal?: AbortSignal;
}

/** Options of `Sandbox.create`. */
export interface SandboxOptions extends ConnectOptions {
  /** Where to run. Volumes and snapshots must be in the same region. Default: `"ord"`. */
  region?: Region;
  /** Environment variables to begin with. */
  env?: Record<string, string>;
  /**
   * How long the sandbox lives: `"session"` until this connection closes, or a duration such as `"90s"` or `"20m"`, after which it ends
   * whoever is connected. At most 30 minutes. Default: `"session"`.
   */
  timeout?: "session" | Duration;
  /** Called when the server allows less than `timeout`, with the time of the end. Default: a warning of the process. */
  onShortened?: (stopAt: Date) => void;
  /** Memory, 768 MiB to 4096 MiB: bytes or a text such as `"1GiB"`. Default: `"1280MiB"`. */
  memory?: Memory;
  /** Labels, at most 5; keys up to 64 bytes, values up to 128. */
  labels?: Record<string, string>;
  /**
   * Id or slug of a bootable volume or snapshot to boot from. Writes to a volume last; writes to a snapshot are gone with the sandbox.
   * Default: the built-in Debian image.
   */
  root?: string;
  /**
   * Volumes to mount: path in the sandbox to id or slug, or to an object for more.
   *
   * ```ts
   * volumes: { "/data/cache": "cache", "/data/models": { volume: "models", readOnly: true } }
   * ```
   */
  volumes?: Record<string, string | VolumeMountConfig>;
  /**
   * What the sandbox may reach: hosts, `*.` patterns and IP addresses, each with an optional port; an empty list is nothing.
   * Default: everything but the host itself and other sandboxes.
   */
  allowNet?: string[];
  /** Environment variables whose values never enter the sandbox. */
  secrets?: Record<string, SecretConfig>;
  /**
   * What the sandbox is called inside, at most 63 letters, digits, `-` and `.`. Default: the slug of the volume that it boots from, which
   * programs bind their files to, else its id.
   */
  hostname?: string;
  /** Ask for SSH access at once; it is then in `sandbox.ssh`. Default: false. */
  ssh?: boolean;
  /** Publish this port over HTTP at once; the address is then in `sandbox.url`. */
  port?: number;
}
