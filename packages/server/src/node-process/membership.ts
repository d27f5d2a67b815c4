import { createPrivateKey, X509Certificate } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { createKey, createSigningRequest } from "@caisson/certificates";
import { hasErrorCode } from "@caisson/linux";
import { CaissonError } from "@caisson/model";
import { type Static, Type } from "typebox";
import { Value } from "typebox/value";
import { type JoinTokenText, parseJoinToken, pinOf } from "../app/nodes/join-token.ts";
import { writeDurably } from "../write-durably.ts";

const NAMES = {
  membership: "membership.json",
  key: "membership-key.pem",
  server: "node.json",
  forgotten: "forgotten.json",
} as const;
const JOIN_TIMEOUT_MS = 30_000;
const MAX_ANSWER_BYTES = 65_536;

const MembershipSchema = Type.Object({
  nodeId: Type.String({ minLength: 1 }),
  certificate: Type.String(),
  authority: Type.String(),
  region: Type.Union([Type.String(), Type.Null()]),
  /** `HOST:PORT`, as it said last where it is. */
  address: Type.String(),
});
const AnswerSchema = Type.Object({
  node_id: Type.String({ pattern: "^nod_[a-z0-9]+$" }),
  certificate: Type.String(),
  authority: Type.String(),
  region: Type.Union([Type.String(), Type.Null()]),
});

/** Which node of which installation this machine is. */
export type Membership = Static<typeof MembershipSchema> & { readonly key: string };

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
 * key with the same token is the same node. A token of the installation that it belongs to changes nothing, so that the command may stay in a service's file. Throws `INVALID_CONFIG`.
 */
export async function ensureMembership(directory: string, wish: JoinWish): Promise<FoundMembership> {
  const known = await read(directory);
  if (known !== null) await requireMember(directory, known);
  const token = wish.token === null ? null : parseJoinToken(wish.token);
  if (known === null) await requireUnused(directory);
  if (known === null && token === null)
    throw new CaissonError(
      "INVALID_CONFIG",
      `${directory} is no node yet. Run "caisson nodes tokens create" on the server, and give what it prints here: caisson up --role node --join TOKEN`,
    );
  if (known !== null && token !== null && pinOf(known.authority) !== token.pin)
    throw new CaissonError(
      "INVALID_CONFIG",
      `${directory} is node ${known.nodeId} of another installation. Leave --join away, or give another directory with --data`,
    );
  const membership = known ?? (await joinInstallation(directory, wish, token as JoinTokenText));
  requireRegion(membership, wish.regions);
  if (membership.address === wish.address) return { ...membership, movedFrom: null };
  const moved = { ...membership, address: wish.address };
  await remember(directory, moved);
  return { ...moved, movedFrom: membership.address };
}

/** Remembers that the installation has forgotten this node. */
export async function rememberDismissal(directory: string, forgottenAt: string): Promise<void> {
  await writeDurably(
    directory,
    NAMES.forgotten,
    `${JSON.stringify({ forgottenAt }, null, 2)}\n`,
    0o600,
    "membership-forgotten.commit",
  );
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
  const text = await readIfThere(join(directory, NAMES.forgotten));
  if (text === null) return;
  const forgottenAt = /"forgottenAt": "([^"]*)"/.exec(text)?.[1] ?? "an unknown day";
  throw dismissedError(directory, nodeId, forgottenAt);
}

async function joinInstallation(
  directory: string,
  { address, regions }: JoinWish,
  token: JoinTokenText,
): Promise<Membership> {
  const key = await ensureKey(directory);
  const answer = await ask(token, { address, signing_request: await createSigningRequest(key, "Caisson node") });
  const { node_id: nodeId, certificate, authority, region } = answer;
  if (pinOf(authority) !== token.pin)
    throw new CaissonError(
      "INVALID_CONFIG",
      `${token.url} is not the server that made the token: its authority is another one. Somebody may be in between, or the token is of another server`,
    );
  requireFitting(certificate, authority, key);
  const membership = { nodeId, certificate, authority, region, address };
  requireRegion(membership, regions);
  await remember(directory, membership);
  return { ...membership, key };
}

/** The key is in a file of its own. */
async function remember(directory: string, membership: Static<typeof MembershipSchema>): Promise<void> {
  const { nodeId, certificate, authority, region, address } = membership;
  const text = `${JSON.stringify({ nodeId, certificate, authority, region, address }, null, 2)}\n`;
  await writeDurably(directory, NAMES.membership, text, 0o600, "membership.commit");
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

/** A certificate of this key, by that authority, at a time that includes now. */
function requireFitting(certificatePem: string, authorityPem: string, key: string): void {
  const certificate = new X509Certificate(certificatePem);
  const authority = new X509Certificate(authorityPem);
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
  if ((await readIfThere(join(directory, NAMES.server))) === null) return;
  throw new CaissonError(
    "INVALID_CONFIG",
    `${directory} belongs to a server with a database of its own: give another directory with --data`,
  );
}

async function ensureKey(directory: string): Promise<string> {
  const known = await readIfThere(join(directory, NAMES.key));
  if (known !== null) return known;
  const key = createKey();
  await writeDurably(directory, NAMES.key, key, 0o600, "membership-key.commit");
  return key;
}

async function read(directory: string): Promise<Membership | null> {
  const path = join(directory, NAMES.membership);
  const text = await readIfThere(path);
  if (text === null) return null;
  try {
    const value: unknown = JSON.parse(text);
    const key = await readIfThere(join(directory, NAMES.key));
    if (key === null) throw new Error(`${NAMES.key} is missing`);
    if (!Value.Check(MembershipSchema, value)) throw new Error("it has not the form that Caisson writes");
    return { ...value, key };
  } catch (error) {
    throw new CaissonError(
      "INVALID_CONFIG",
      `Cannot read ${path}: ${error instanceof Error ? error.message : String(error)}. Restore the file from a backup`,
      { cause: error },
    );
  }
}

async function readIfThere(path: string): Promise<string | null> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    if (hasErrorCode(error, "ENOENT")) return null;
    throw error;
  }
}
