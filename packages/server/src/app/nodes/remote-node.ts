import type { Node, NodeDescription, TakeNodeEvent } from "@caisson/node";
import type { ShownCertificate, SignedCertificate } from "@caisson/node-link";
import type { NodeAddress } from "./node-address.ts";

/** A node on another machine, over a connection that is made again when it is lost. Without one, every call fails with `NODE_UNAVAILABLE`. */
export interface RemoteNode extends Node, AsyncDisposable {
  /** Why there is no connection, as the end of a sentence; null: there is one. */
  readonly problem: string | null;
  /** Where the last try to connect that is over went, which `problem` tells of. Null: none is since there was a connection, or it ended before the network was used, as when the store did not tell the address. */
  readonly triedAddress: NodeAddress | null;
  /** Whether it can be reached: tries to connect now, for 5 s at most. Where it answers, the connection is made at once. Throws `NODE_UNAVAILABLE` where no try can be made. */
  isThere(): Promise<boolean>;
  /** Of the certificate that it shows to new connections. Null: there is no connection. */
  readonly certificate: ShownCertificate | null;
  /** Gives it a new certificate, for a new key that never leaves it; `sign` gets the signing request, in PEM form. After a failure it has the old one or the new one. */
  renewCertificate(sign: (signingRequest: string) => Promise<SignedCertificate>): Promise<void>;
  /** Says which generation its calls are of. Before that, a run that is new to this object takes none but `describe`. Throws when it is another run meanwhile. */
  begin(runId: string, generation: number): void;
  /** Tells it that its installation has forgotten it, at that time in ISO 8601: it ends, and does not start again. */
  dismiss(forgottenAt: string): Promise<void>;
  /** Tells this run of it that it was shut out of the replicated pool: it ends at once, with all that it has. */
  expel(runId: string): Promise<void>;
}

export interface RemoteNodeOptions {
  readonly nodeId: string;
  /** Asked before each try to connect. */
  readonly address: () => Promise<NodeAddress>;
  readonly takeEvent: TakeNodeEvent;
  /** Its process ends: its sandboxes are to be ended now. Resolves when they are. */
  readonly onStopping: () => Promise<void>;
  /** A connection stands. */
  readonly onConnected: (description: NodeDescription) => void;
  /** It was lost. */
  readonly onLost: (reason: string) => void;
}

/** Begins to connect, and returns at once. */
export type OpenRemoteNode = (options: RemoteNodeOptions) => RemoteNode;
