import type { FileHandle } from "node:fs/promises";
import { holdNewNamespaces, type IdMapping, openNamespace, runTool, step, UndoStack } from "@caisson/linux";
import { parseAddress } from "./address.ts";
import { IDS_PER_SANDBOX, type Slot } from "./places.ts";

/**
 * Larger ids, up to 2^31, are the same for all sandboxes, because there are not enough for each: archives name owners such as 197609 or
 * 1000620000, and root must be able to unpack them. No process of the host has them, and files of one sandbox are never seen by another; what they
 * share are the kernel's few limits for each user, such as the memory of pipes.
 */
const SHARED_IDS: IdMapping = { firstId: IDS_PER_SANDBOX, firstHostId: 2 ** 31, count: 2 ** 31 - IDS_PER_SANDBOX };

/** How ids inside are translated. */
export function idMappings({ firstHostId, count }: Slot["ids"]): readonly IdMapping[] {
  return [{ firstId: 0, firstHostId, count }, SHARED_IDS];
}

/** User and network namespaces of one sandbox. Disposing them ends them for good. */
export interface PreparedNamespaces extends AsyncDisposable {
  readonly slot: Slot;
  readonly user: FileHandle;
  readonly network: FileHandle;
}

/** Makes the namespaces of a slot and connects them with the host by the interface `linkName`. */
export async function prepareNamespaces(slot: Slot, linkName: string, gateway: string): Promise<PreparedNamespaces> {
  await using holder = await holdNewNamespaces(idMappings(slot.ids));
  await step("network.link", () => configureLink(holder.pid, linkName, slot, gateway));
  await using undo = new UndoStack();
  const user = undo.use(await openNamespace(holder.pid, "user"));
  const network = undo.use(await openNamespace(holder.pid, "net"));
  const resources = undo.move();
  return { slot, user, network, [Symbol.asyncDispose]: () => resources[Symbol.asyncDispose]() };
}

/**
 * Joins the namespace of process `pid` with the host by a pair of interfaces. The pair goes when the namespace goes. Inside there is one
 * address and one way out; unprivileged ping and ports below 1024 work; IPv6 exists on the loopback interface only.
 *
 * Both sides know each other's hardware address from the beginning: the kernel keeps what it has asked for in a table of 1,024 entries
 * (`net.ipv4.neigh.default.gc_thresh3`) for the host and all of its namespaces together, and what is permanent does not count there.
 */
async function configureLink(pid: number, name: string, { address, ids }: Slot, gateway: string): Promise<void> {
  const [hostHardware, ownHardware] = [hardwareAddress("02:c5", address), hardwareAddress("06:c5", address)];
  const outside = [
    `link add ${name} address ${hostHardware} type veth peer name eth0 address ${ownHardware} netns ${pid}`,
    // Without an address of its own, not even a link-local one, the host's side answers to nothing but the gateway address.
    `link set ${name} addrgenmode none`,
    `addr add ${gateway}/32 dev ${name}`,
    `link set ${name} up`,
    `route replace ${address}/32 dev ${name}`,
    `neigh replace ${address} lladdr ${ownHardware} dev ${name} nud permanent`,
  ];
  await runTool("ip", ["-batch", "-"], { input: `${outside.join("\n")}\n` });
  const inside = [
    "link set lo up",
    "link set eth0 addrgenmode none",
    "link set eth0 up",
    `addr add ${address}/32 dev eth0`,
    `route add ${gateway} dev eth0 scope link`,
    `route add default via ${gateway} dev eth0 src ${address}`,
    `neigh replace ${gateway} lladdr ${hostHardware} dev eth0 nud permanent`,
  ];
  const settings = [
    "echo 1 >/proc/sys/net/ipv6/conf/eth0/disable_ipv6",
    `echo ${ids.firstHostId} ${ids.firstHostId + ids.count - 1} >/proc/sys/net/ipv4/ping_group_range`,
    "echo 0 >/proc/sys/net/ipv4/ip_unprivileged_port_start",
  ];
  const script = `${settings.join(" && ")} && exec ip -batch -`;
  await runTool("nsenter", [`--net=/proc/${pid}/ns/net`, "sh", "-c", script], { input: `${inside.join("\n")}\n` });
}

/** A locally administered hardware address that no other sandbox of the host has. */
function hardwareAddress(prefix: string, address: string): string {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(parseAddress(address));
  return [prefix, ...(bytes.toString("hex").match(/../g) ?? [])].join(":");
}
