import type { FileHandle } from "node:fs/promises";
import { holdNewNamespaces, type IdRange, openNamespace, runTool, step } from "@caisson/linux";
import { formatAddress } from "./address.ts";

/** User and network namespaces of one sandbox, made before it is known which sandbox that is. Disposing them ends them for good. */
export interface PreparedNamespaces extends AsyncDisposable {
  readonly slot: Slot;
  readonly user: FileHandle;
  readonly network: FileHandle;
}

/** A place among the sandboxes of the instance: the ids and the address that go with it. */
export interface Slot {
  readonly index: number;
  readonly ids: IdRange;
  readonly address: string;
}

export interface NamespacePoolOptions {
  /** How many to keep ready. Each costs about 0.3 MB of kernel memory and no process. */
  readonly size: number;
  readonly slotCount: number;
  readonly firstHostId: number;
  readonly firstAddress: number;
  readonly gateway: string;
  /** Names of interfaces on the host start with this; at most 9 characters. */
  readonly interfacePrefix: string;
}

export const IDS_PER_SANDBOX = 65536;

/** More at a time would only compete for the processor with the sandboxes that are starting. */
const CONCURRENCY = 2;

/**
 * Keeps namespaces ready and makes new ones in the background, because making them (three processes, 10 ms) would be a large part of the
 * start of a sandbox. Slots go to the back of a queue when they are free again, so that a name or an address is not used again while the
 * kernel is still removing what had it before.
 */
export class NamespacePool {
  readonly #options: NamespacePoolOptions;
  readonly #freeSlots: number[];
  readonly #ready: PreparedNamespaces[] = [];
  readonly #waiting: { resolve(namespaces: PreparedNamespaces): void; reject(error: unknown): void }[] = [];
  readonly #making = new Set<Promise<void>>();
  #sequence = 0;
  #isClosed = false;

  constructor(options: NamespacePoolOptions) {
    this.#options = options;
    this.#freeSlots = Array.from({ length: options.slotCount }, (_, index) => index);
    this.#refill();
  }

  /** Takes prepared namespaces, or waits for the next ones. The caller disposes of them. */
  async take(signal?: AbortSignal): Promise<PreparedNamespaces> {
    signal?.throwIfAborted();
    const ready = this.#ready.shift();
    if (ready !== undefined) {
      this.#refill();
      return ready;
    }
    const { promise, resolve, reject } = Promise.withResolvers<PreparedNamespaces>();
    const waiter = { resolve, reject };
    this.#waiting.push(waiter);
    const abort = (): void => {
      const index = this.#waiting.indexOf(waiter);
      if (index < 0) return;
      this.#waiting.splice(index, 1);
      reject(signal?.reason);
    };
    signal?.addEventListener("abort", abort, { once: true });
    this.#refill();
    try {
      return await promise;
    } finally {
      signal?.removeEventListener("abort", abort);
    }
  }

  /** Ends what is ready and waits for what is being made. Namespaces that were taken stay with those who took them. */
  async close(): Promise<void> {
    this.#isClosed = true;
    for (const { reject } of this.#waiting.splice(0)) reject(new Error("The network is closed"));
    await Promise.all(this.#making);
    await Promise.all(this.#ready.splice(0).map((namespaces) => namespaces[Symbol.asyncDispose]()));
  }

  #refill(): void {
    while (!this.#isClosed && this.#making.size < CONCURRENCY && this.#wanted() > this.#making.size) {
      const index = this.#freeSlots.shift();
      if (index === undefined) {
        const error = new Error(`All ${this.#options.slotCount} places for sandboxes are taken`);
        for (const { reject } of this.#waiting.splice(0)) reject(error);
        return;
      }
      const making = this.#make(index).then((isMade) => {
        this.#making.delete(making);
        // After a failure only a waiting sandbox is a reason to try again at once.
        if (isMade || this.#waiting.length > 0) this.#refill();
      });
      this.#making.add(making);
    }
  }

  #wanted(): number {
    return this.#waiting.length + this.#options.size - this.#ready.length;
  }

  async #make(index: number): Promise<boolean> {
    try {
      const namespaces = await this.#prepare(this.#slot(index));
      const waiter = this.#waiting.shift();
      if (waiter === undefined) this.#ready.push(namespaces);
      else waiter.resolve(namespaces);
      return true;
    } catch (error) {
      this.#freeSlots.push(index);
      // Whoever waits learns the reason; when nobody does, the next one who asks makes it try anew and learns it then.
      this.#waiting.shift()?.reject(error);
      return false;
    }
  }

  #slot(index: number): Slot {
    const { firstHostId, firstAddress } = this.#options;
    return {
      index,
      ids: { firstHostId: firstHostId + index * IDS_PER_SANDBOX, count: IDS_PER_SANDBOX },
      address: formatAddress(firstAddress + index),
    };
  }

  async #prepare(slot: Slot): Promise<PreparedNamespaces> {
    return step("network.prepare", async () => {
      await using holder = await holdNewNamespaces(slot.ids);
      this.#sequence += 1;
      const name = `${this.#options.interfacePrefix}${this.#sequence.toString(36)}`;
      await configureLink(holder.pid, name, slot, this.#options.gateway);
      const user = await openNamespace(holder.pid, "user");
      const network = await openNamespace(holder.pid, "net");
      return {
        slot,
        user,
        network,
        [Symbol.asyncDispose]: async () => {
          await Promise.all([user.close(), network.close()]);
          this.#freeSlots.push(slot.index);
        },
      };
    });
  }
}

/**
 * Joins the namespace of process `pid` with the host by a pair of interfaces. The pair goes when the namespace goes. Inside there is one
 * address and one way out; unprivileged ping and ports below 1024 work; IPv6 exists on the loopback interface only.
 */
async function configureLink(pid: number, name: string, { address, ids }: Slot, gateway: string): Promise<void> {
  const outside = [
    `link add ${name} type veth peer name eth0 netns ${pid}`,
    // Without an address of its own, not even a link-local one, the host's side answers to nothing but the gateway address.
    `link set ${name} addrgenmode none`,
    `addr add ${gateway}/32 dev ${name}`,
    `link set ${name} up`,
    `route replace ${address}/32 dev ${name}`,
  ];
  await runTool("ip", ["-batch", "-"], { input: `${outside.join("\n")}\n` });
  const inside = [
    "link set lo up",
    "link set eth0 addrgenmode none",
    "link set eth0 up",
    `addr add ${address}/32 dev eth0`,
    `route add ${gateway} dev eth0 scope link`,
    `route add default via ${gateway} dev eth0 src ${address}`,
  ];
  const settings = [
    "echo 1 >/proc/sys/net/ipv6/conf/eth0/disable_ipv6",
    `echo ${ids.firstHostId} ${ids.firstHostId + ids.count - 1} >/proc/sys/net/ipv4/ping_group_range`,
    "echo 0 >/proc/sys/net/ipv4/ip_unprivileged_port_start",
  ];
  const script = `${settings.join(" && ")} && exec ip -batch -`;
  await runTool("nsenter", [`--net=/proc/${pid}/ns/net`, "sh", "-c", script], { input: `${inside.join("\n")}\n` });
}
