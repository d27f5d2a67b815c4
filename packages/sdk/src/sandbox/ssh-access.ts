/** How to log into a sandbox over SSH: `ssh -p <port> <username>@<hostname>`. */
export interface SshAccess {
  /** Random and bound to the sandbox. Whoever knows it may log in. */
  username: string;
  /** The host to connect to. */
  hostname: string;
  /** The port to connect to. */
  port: number;
}

export function toSshAccess({ hostname, username, port }: Readonly<Record<string, unknown>>): SshAccess {
  return { hostname: String(hostname), username: String(username), port: Number(port) };
}
