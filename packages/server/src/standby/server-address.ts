import { hostname } from "node:os";
import type { ListenerAddress, ServerAddress } from "@caisson/database";
import { parseNodeAddress } from "../app/nodes/node-address.ts";
import type { Config } from "../config.ts";

/** Where servers on other machines reach the listeners of this one, by the ports that they have. */
export function serverAddress(
  config: Config,
  ports: { readonly api: number; readonly previews: number; readonly ssh: number | null },
): ServerAddress {
  const { listenHost, expose, ssh } = config;
  return {
    api: reachable(config, listenHost, ports.api),
    previews: reachable(config, expose.listenHost, ports.previews),
    ssh: ssh === null || ports.ssh === null ? null : reachable(config, ssh.listenHost, ports.ssh),
  };
}

/** By the address that is listened at; where that is every address, by what this machine is called. */
function reachable({ node }: Config, host: string, port: number): ListenerAddress {
  const isEvery = host === "0.0.0.0" || host === "::";
  if (!isEvery) return { host, port };
  const { address } = node;
  return { host: address === null ? hostname() : (parseNodeAddress(address)?.host ?? address), port };
}
