import { createPrivateKey, X509Certificate } from "node:crypto";
import { access } from "node:fs/promises";
import { join } from "node:path";
import { createSigningRequest } from "@caisson/certificates";
import { hasErrorCode } from "@caisson/linux";
import { CaissonError } from "@caisson/model";
import { splitCertificates } from "@caisson/node-link";
import { type Static, Type } from "typebox";
import { Value } from "typebox/value";
import { type JoinTokenText, parseJoinToken, pinOf } from "../app/nodes/join-token.ts";
import { ensureKey, type Membership, readDismissal, readMembership, writeMembership } from "./membership-file.ts";

/** What a server keeps about its own node. */
const SERVER_FILE = "node.json";
const JOIN_TIMEOUT_MS = 30_000;
const MAX_ANSWER_BYTES = 65_536;

const AnswerSchema = Type.Object({
  node_id: Type.String({ pattern: "^nod_[a-z0-9]+$" }),
  certificate: Type.String(),
  authority: Type.String(),
  region: Type.Union([Type.String(), Type.Null()]),
});

/** A membership, and whether the address of this machine is another one than at its last start; then where that was. */
export type FoundMembership = Membership & { readonly movedFrom: string | null };

export interface JoinWish {
  /** Null: it has joined before. */
  readonly token: string | null;
  /** `HOST:PORT`. */
  readonly address: string;
  readonly regions: readonly string[];
}

/**
 * The membership of a data directory; by the token, when it has none yet. Its key is on stable storage before the server hears of it, so that a join that was cut off anywhere is finished by the same command: the same
 * key with the same token is the same node. A machine whose certificate has expired gets another one by a token, and stays the node that it is; so does one that a token names another authority to, because its installation's was renewed while it was away. Otherwise a
 * token of the installation that it belongs to changes nothing, so that the command may stay in a service's file. Throws `INVALID_CONFIG`.
 */
export async function ensureMembership(directory: string, wish: JoinWish): Promise<FoundMembership> {
  const known = await readMembership(directory);
  if (known !== null) await requireMember(directory, known);
  const token = wish.token === null ? null : parseJoinToken(wish.token);
  if (known === null) await requireUnused(directory);
  if (known === null && token === null)
    throw new CaissonError(
      "INVALID_CONFIG",
      `${directory} is no node yet. Run "caisson nodes tokens create" on the server, and give what it prints here: caisson up --role node --join TOKEN`,
    );
  if (known !== null && token === null && isOver(known)) throw expiredError(directory, known);
  const membership =
    token === null || (known !== null && !isOver(known) && pinOf(known.authority) === token.pin)
      ? (known as Membership)
      : await (known === null ? joinInstallation(directory, wish, token) : joinAgain(directory, wish, token, known));
  requireRegion(membership, wish.regions);
  if (membership.address === wish.address) return { ...membership, movedFrom: null };
  const moved = { ...membership, address: wish.address };
  await writeMembership(directory, moved);
  return { ...moved, movedFrom: membership.address };
}

/** What the operator of a node is to know that its installation has forgotten. */
export function dismissedError(directory: string, nodeId: string, forgottenAt: string): CaissonError {
  return new CaissonError(
    "INVALID_CONFIG",
    `The installation has forgotten node ${nodeId} on ${forgottenAt}, and takes nothing from it any more; what it had counts as lost. Its images are still in ${directory}. ` +
      `To have this machine as a new node, move ${directory} away, or give another directory with --data, and join with a new token: caisson up --role node --join TOKEN`,
  );
}

async function requireMember(directory: string, { nodeId }: Membership): Promise<void> {
  const forgottenAt = await readDismissal(directory);
  if (forgottenAt !== null) throw dismissedError(directory, nodeId, forgottenAt);
}

/** By the clock of this machine. */
function isOver({ certificate }: Pick<Membership, "certificate">): boolean {
  return new X509Certificate(certificate).validToDate <= new Date();
}

/** `tried`: why the token that was given did not help. */
function expiredError(directory: string, { nodeId, certificate }: Membership, tried?: unknown): CaissonError {
  const ended = new X509Certificate(certificate).validToDate.toISOString();
  const failed = tried instanceof Error ? `. ${tried.message}` : "";
  return new CaissonError(
    "INVALID_CONFIG",
    `The certificate of node ${nodeId} was good until ${ended}, and by the clock of this machine it is ${new Date().toISOString()}. If the clock is wrong, set it (timedatectl set-ntp true). ` +
      `If this machine was off for so long, run "caisson nodes tokens create" on the server, and here: caisson up --role node --join TOKEN. It stays the same node, with its volumes in ${directory}${failed}`,
    { cause: tried },
  );
}

/**
 * For the node that this machine is already. It shows what the authority of the token has signed for it, if there is such a certificate: then it is also known to a server whose rows were restored from before the authority was renewed. A token of an authority that it has known,
 * and that is of no use, may have stayed in a service's file, and changes nothing.
 */
async function joinAgain(
  directory: string,
  wish: JoinWish,
  token: JoinTokenText,
  known: Membership,
): Promise<Membership> {
  const former = known.former?.find(({ pin }) => pin === token.pin);
  const isKnownPin = former !== undefined || splitCertificates(known.authority).some((pem) => pinOf(pem) === token.pin);
  try {
    return await joinInstallation(directory, wish, token, { known, shown: former ?? known });
  } catch (error) {
    // A token that stays in a service's file is no help then.
    if (isOver(known)) throw expiredError(directory, known, error);
    if (isKnownPin) return known;
    throw new CaissonError(
      "INVALID_CONFIG",
      `${directory} is node ${known.nodeId} of another installation, or of this one with an authority that it does not know yet; then it could not join again: ${(error as Error).message}. ` +
        "Leave --join away, give another directory with --data, or run the command with a new token",
      { cause: error },
    );
  }
}

/** What a membership keeps of what it was, when it is to be of the first of these authorities. */
export function formerOf(membership: Membership, authority: string): Pick<Membership, "former"> {
  const { certificate, key, former = [] } = membership;
  const [pin, next] = [pinOf(membership.authority), pinOf(authority)];
  if (pin === next) return former.length === 0 ? {} : { former };
  return { former: [{ pin, certificate, key }, ...former.filter((one) => one.pin !== pin && one.pin !== next)] };
}

/** `again`: the node that this machine is already, and which certificate and key it shows for that. */
async function joinInstallation(
  directory: string,
  { address, regions }: JoinWish,
  token: JoinTokenText,
  again: { readonly known: Membership; readonly shown: Pick<Membership, "certificate" | "key"> } | null = null,
): Promise<Membership> {
  const known = again?.known ?? null;
  const key = again?.shown.key ?? (await ensureKey(directory));
  const answer = await ask(token, {
    address,
    signing_request: await createSigningRequest(key, "Caisson node"),
    ...(again === null ? {} : { certificate: again.shown.certificate }),
  });
  const { node_id: nodeId, certificate } = answer;
  // What the token names, and nothing that somebody in between may have put behind it.
  const authority = new X509Certificate(answer.authority).toString();
  // The token may be for another region than the one that it has been given to.
  const region = known === null ? answer.region : known.region;
  if (pinOf(authority) !== token.pin)
    throw new CaissonError(
      "INVALID_CONFIG",
      `${token.url} is not the server that made the token: its authority is another one. Somebody may be in between, or the token is of another server`,
    );
  requireFitting({ certificate, authority, key });
  if (known !== null && known.nodeId !== nodeId)
    throw new CaissonError(
      "INVALID_CONFIG",
      `${token.url} says that this machine is node ${nodeId}, and ${directory} is node ${known.nodeId}: give the server the version of this machine, and run the command again with a new token`,
    );
  const membership = {
    nodeId,
    certificate,
    authority,
    region,
    address,
    key,
    ...(known === null ? {} : formerOf(known, authority)),
  };
  requireRegion(membership, regions);
  await writeMembership(directory, membership);
  return membership;
}

async function ask(token: JoinTokenText, body: object): Promise<Static<typeof AnswerSchema>> {
  const url = new URL("/v3/nodes/join", token.url);
  const fail = (reason: string, cause?: unknown): never => {
    throw new CaissonError("INVALID_CONFIG", `Cannot join at ${url.origin}: ${reason}`, { cause });
  };
  let response: Response;
  let text: string;
  try {
    response = await fetch(url, {
      method: "POST",
      headers: {
        authorization: `Bearer ${token.secret}`,
        "content-type": "application/json",
        accept: "application/json",
      },
      body: JSON.stringify(body),
      redirect: "error",
      signal: AbortSignal.timeout(JOIN_TIMEOUT_MS),
    });
    text = await response.text();
  } catch (error) {
    const cause = error instanceof Error && error.cause instanceof Error ? error.cause : (error as Error);
    return fail(
      `the server does not answer there (${"code" in cause ? String(cause.code) : cause.message}). It must listen where this machine reaches it: set "listen" and "public_url" on the server, and make a new token`,
      error,
    );
  }
  let answer: unknown = null;
  if (text.length <= MAX_ANSWER_BYTES)
    try {
      answer = JSON.parse(text);
    } catch {
      // What is not JSON is told of below.
    }
  if (response.ok && Value.Check(AnswerSchema, answer)) return answer;
  const message = (answer as { readonly message?: unknown } | null)?.message;
  return fail(
    typeof message === "string" ? message : `it answers ${response.status}, and is no Caisson server of this version`,
  );
}

/** Throws `INVALID_CONFIG` unless it is a certificate of this key, by that authority, at a time that includes now. */
export function requireFitting(signed: Pick<Membership, "certificate" | "authority" | "key">): void {
  const { key } = signed;
  const certificate = new X509Certificate(signed.certificate);
  const authority = new X509Certificate(signed.authority);
  if (!certificate.checkPrivateKey(createPrivateKey(key)) || !certificate.verify(authority.publicKey))
    throw new CaissonError(
      "INVALID_CONFIG",
      "The server has signed for another key: its answer is not used. Run the command again",
    );
  const now = new Date();
  if (certificate.validFromDate <= now && now < certificate.validToDate) return;
  throw new CaissonError(
    "INVALID_CONFIG",
    `By the clock of this machine it is ${now.toISOString()}, and the certificate that the server has made is good from ${certificate.validFromDate.toISOString()}: set the clocks (timedatectl set-ntp true), and run the command again`,
  );
}

function requireRegion({ region, nodeId }: Pick<Membership, "region" | "nodeId">, regions: readonly string[]): void {
  if (region === null || (regions.length === 1 && regions[0] === region)) return;
  throw new CaissonError(
    "INVALID_CONFIG",
    `Node ${nodeId} may have region ${region} alone, as its token says, and the settings say ${regions.join(", ")}: set regions = ["${region}"]`,
  );
}

async function requireUnused(directory: string): Promise<void> {
  const isServer = await access(join(directory, SERVER_FILE)).then(
    () => true,
    (error: unknown) => {
      if (hasErrorCode(error, "ENOENT")) return false;
      throw error;
    },
  );
  if (!isServer) return;
  throw new CaissonError(
    "INVALID_CONFIG",
    `${directory} belongs to a server with a database of its own: give another directory with --data`,
  );
}
