import { step, UndoStack } from "@caisson/linux";
import { changePacketFilter } from "../network/packet-filter.ts";
import type { EgressPolicy } from "../runtime.ts";
import { ClosedAddresses } from "./closed-addresses.ts";
import { activationRules } from "./egress-rules.ts";
import { EgressSandbox } from "./egress-sandbox.ts";
import { NameForwarder } from "./names/name-forwarder.ts";
import { answerByPolicy } from "./names/name-policy.ts";
import { EgressProxy } from "./proxy/egress-proxy.ts";
import { TlsInterceptor } from "./proxy/tls-interceptor.ts";

export interface EgressGuardOptions {
  /** The instance's table, which has the sets and chains of egress-rules.ts. */
  readonly table: string;
  /** The host's address on every sandbox's interface. */
  readonly gateway: string;
  readonly resolvers: readonly string[];
  /** Networks that no policy opens. */
  readonly closedNetworks: readonly string[];
  readonly grantSecondsMin: number;
}

/**
 * Enforces the policies of an instance's sandboxes. The kernel drops what a restricted sandbox sends but name queries, which come to the forwarder
 * here, allowed addresses, and granted ones: those that the forwarder has just answered. Connections to granted addresses go through the proxy.
 *
 * The listeners are made with the first policy, because only then does the gateway address exist for certain; without policies they cost nothing.
 */
export class EgressGuard implements AsyncDisposable {
  readonly #options: EgressGuardOptions;
  readonly #sandboxes = new Map<string, EgressSandbox>();
  readonly #interceptor = new TlsInterceptor();
  #listeners: Promise<UndoStack> | null = null;

  constructor(options: EgressGuardOptions) {
    this.#options = options;
  }

  /** Enforces the policy on the sandbox at the address, from before this resolves until what it returns is disposed of. */
  async restrict(address: string, policy: EgressPolicy): Promise<AsyncDisposable> {
    this.#listeners ??= this.#listen().catch((error: unknown) => {
      this.#listeners = null;
      throw error;
    });
    await this.#listeners;
    const sandbox = new EgressSandbox(this.#options.table, address, policy);
    this.#sandboxes.set(address, sandbox);
    const release = async (): Promise<void> => {
      await sandbox[Symbol.asyncDispose]();
      this.#sandboxes.delete(address);
    };
    try {
      await sandbox.restrict();
    } catch (error) {
      await release();
      throw error;
    }
    return { [Symbol.asyncDispose]: release };
  }

  /** PEM of the authority that signs for hosts of secrets, which sandboxes with secrets must trust. */
  authorityCertificate(): Promise<string> {
    return this.#interceptor.authorityCertificate();
  }

  /** After every sandbox has been released. */
  async [Symbol.asyncDispose](): Promise<void> {
    const listeners = await this.#listeners?.catch(() => null);
    await listeners?.[Symbol.asyncDispose]();
  }

  async #listen(): Promise<UndoStack> {
    const { table, gateway, resolvers, closedNetworks, grantSecondsMin } = this.#options;
    const closed = new ClosedAddresses(closedNetworks);
    await using undo = new UndoStack();
    const names = undo.use(
      await NameForwarder.listen(gateway, async (client, name, type, signal) => {
        const sandbox = this.#sandboxes.get(client);
        if (sandbox === undefined) throw new Error("No sandbox with a policy has this address");
        return answerByPolicy(sandbox, name, type, { resolvers, closed, grantSecondsMin }, signal);
      }),
    );
    const proxy = undo.use(
      await EgressProxy.listen(gateway, {
        findSandbox: (address) => this.#sandboxes.get(address),
        closed,
        interceptor: this.#interceptor,
      }),
    );
    const input = activationRules(table, gateway, { names: names.port, proxy: proxy.port });
    await step("egress.listen", () => changePacketFilter(input));
    return undo.move();
  }
}
