import type { SshEndpoint } from "@caisson/sdk";
import { CliError } from "../cli-error.ts";
import { EXIT } from "../exit-codes.ts";

const HOSTNAME = /^[A-Za-z0-9:][A-Za-z0-9.:-]{0,252}$/;
const HOST_KEY = /^[a-z0-9-]{1,64} [A-Za-z0-9+/]{1,4096}={0,2}$/;
const FINGERPRINT = /^SHA256:[A-Za-z0-9+/]{43}$/;

/**
 * Refuses what no server of ours says. Its answers become files for OpenSSH, where a line more can name a program to run on this machine, and names of
 * files: a server may do much to its sandboxes and nothing to its clients.
 */
export function checkEndpoint({ hostname, port, hostKey, fingerprint }: SshEndpoint): void {
  if (!HOSTNAME.test(hostname)) throw refusal("host name", hostname);
  if (!Number.isInteger(port) || port < 1 || port > 65_535) throw refusal("port", String(port));
  if (!HOST_KEY.test(hostKey)) throw refusal("host key", hostKey);
  if (!FINGERPRINT.test(fingerprint)) throw refusal("fingerprint", fingerprint);
}

/** A line of OpenSSH's configuration is one line. */
export function checkLine(line: string): void {
  if (/[\r\n\0]/.test(line)) throw refusal("line", line);
}

function refusal(what: string, value: string): CliError {
  return new CliError(
    "INVALID_ANSWER",
    EXIT.failure,
    `The server's answer about SSH has no usable ${what}: ${JSON.stringify(value.slice(0, 80))}`,
    "Check that the endpoint is a Caisson server that you trust.",
  );
}
