import { BlockList, isIPv4 } from "node:net";
import { networkInterfaces } from "node:os";

/**
 * Addresses that no sandbox may reach through the server, although the server could: blocked networks and every address of this host.
 * The kernel's rules guard what a sandbox sends itself; this guards what the server sends on its behalf.
 */
export class ClosedAddresses {
  readonly #networks = new BlockList();

  constructor(networks: readonly string[]) {
    for (const network of networks) {
      const [base = "", length = "32"] = network.split("/");
      this.#networks.addSubnet(base, Number(length), "ipv4");
    }
  }

  has(address: string): boolean {
    if (!isIPv4(address) || this.#networks.check(address, "ipv4")) return true;
    // Asked anew each time, because a host's addresses come and go.
    return Object.values(networkInterfaces()).some((entries) => entries?.some((entry) => entry.address === address));
  }
}
