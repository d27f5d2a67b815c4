import type { Authority, NodeRecord } from "@caisson/database";
import { validityOf } from "@caisson/node-link";
import { requireAdmin } from "../access/administrator.ts";
import type { Actor, AppContext } from "../context.ts";
import { pinOf } from "./join-token.ts";
import { parseNodeAddress } from "./node-address.ts";

/** An authority that is believed. */
export interface ShownAuthority {
  readonly number: number;
  /** `pinOf` its certificate, as tokens for joining have it. */
  readonly fingerprint: string;
  readonly expiresAtMs: number;
}

/** How it is with the installation's authority. */
export interface AuthorityState {
  /** Empty: none was made yet. One: it signs for all. Two: the old one and the new one, which is given to the nodes. */
  readonly believed: readonly ShownAuthority[];
  /** Nodes whose certificate is not known to be of the newest authority: with two, those that would be locked out if the old one were retired; with one, those that are. */
  readonly waitingNodeIds: readonly string[];
}

/** Throws `FORBIDDEN` unless the actor may administer the server. */
export async function getAuthority(app: AppContext, actor: Actor): Promise<AuthorityState> {
  requireAdmin(actor, "see the authority of the nodes");
  return readAuthority(app);
}

export async function readAuthority({ store }: Pick<AppContext, "store">): Promise<AuthorityState> {
  const believed = (await store.joining.authorities()).filter(({ privateKey }) => privateKey !== null);
  const newest = believed.at(-1);
  if (newest === undefined) return { believed: [], waitingNodeIds: [] };
  const waiting = waitingNodes(await store.nodes.list(), newest.number);
  // Of a node that was not seen yet nothing says that it is locked out.
  const shown =
    believed.length > 1 ? waiting : waiting.filter(({ certificateAuthority }) => certificateAuthority !== null);
  return { believed: believed.map(show), waitingNodeIds: shown.map(({ id }) => id) };
}

/** Those on other machines whose certificate is not known to be of that authority. */
export function waitingNodes(nodes: readonly NodeRecord[], authority: number): readonly NodeRecord[] {
  return nodes.filter(
    ({ address, lostAtMs, certificateAuthority }) =>
      lostAtMs === null && parseNodeAddress(address) !== null && certificateAuthority !== authority,
  );
}

function show({ number, certificate }: Authority): ShownAuthority {
  return { number, fingerprint: pinOf(certificate), expiresAtMs: validityOf(certificate).untilMs };
}
