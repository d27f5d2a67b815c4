import { readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { createKey } from "@caisson/certificates";
import { hasErrorCode } from "@caisson/linux";
import { CaissonError } from "@caisson/model";
import { type Static, Type } from "typebox";
import { Value } from "typebox/value";
import { writeDurably } from "../write-durably.ts";

const NAMES = {
  membership: "membership.json",
  key: "membership-key.pem",
  forgotten: "forgotten.json",
} as const;

const FormerSchema = Type.Object({
  /** `pinOf` the authority. */
  pin: Type.String(),
  certificate: Type.String(),
  key: Type.String(),
});

const MembershipSchema = Type.Object({
  nodeId: Type.String({ minLength: 1 }),
  certificate: Type.String(),
  /** Of the authorities that are believed; the first one has signed the certificate. */
  authority: Type.String(),
  region: Type.Union([Type.String(), Type.Null()]),
  /** `HOST:PORT`, as it said last where it is. */
  address: Type.String(),
  /** In PEM form, once the certificate was renewed: both are replaced at once. Before that it is in a file of its own. */
  key: Type.Optional(Type.String()),
  former: Type.Optional(Type.Array(FormerSchema)),
});

/** What the node showed last while an earlier authority of its installation signed for it. */
export type FormerIdentity = Readonly<Static<typeof FormerSchema>>;

/** Which node of which installation this machine is. */
export type Membership = Omit<Static<typeof MembershipSchema>, "key" | "former"> & {
  readonly key: string;
  /** By authority, the latest first. Absent: there has been one authority alone. */
  readonly former?: readonly FormerIdentity[];
};

/** A key that is not in its own file, which it was made in before the machine joined, goes with the rest. */
export async function writeMembership(directory: string, membership: Membership): Promise<void> {
  const { nodeId, certificate, authority, region, address, key, former } = membership;
  const isRenewed = key !== (await readIfThere(join(directory, NAMES.key)));
  const value = {
    nodeId,
    certificate,
    authority,
    region,
    address,
    ...(isRenewed ? { key } : {}),
    ...(former === undefined ? {} : { former }),
  };
  await writeDurably(directory, NAMES.membership, `${JSON.stringify(value, null, 2)}\n`, 0o600, "membership.commit");
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

/** When the installation has forgotten this node, as it was told; null: it has not. */
export async function readDismissal(directory: string): Promise<string | null> {
  const text = await readIfThere(join(directory, NAMES.forgotten));
  return text === null ? null : (/"forgottenAt": "([^"]*)"/.exec(text)?.[1] ?? "an unknown day");
}

/** The key that the machine joins with; it is on stable storage when this resolves. */
export async function ensureKey(directory: string): Promise<string> {
  const known = await readIfThere(join(directory, NAMES.key));
  if (known !== null) return known;
  const key = createKey();
  await writeDurably(directory, NAMES.key, key, 0o600, "membership-key.commit");
  return key;
}

/** Removes the key that the machine has joined with, once another one is in use. */
export async function removeFirstKey(directory: string): Promise<void> {
  await rm(join(directory, NAMES.key), { force: true });
}

/** Null: there is none. Throws `INVALID_CONFIG` for one that cannot be read. */
export async function readMembership(directory: string): Promise<Membership | null> {
  const path = join(directory, NAMES.membership);
  const text = await readIfThere(path);
  if (text === null) return null;
  try {
    const value: unknown = JSON.parse(text);
    if (!Value.Check(MembershipSchema, value)) throw new Error("it has not the form that Caisson writes");
    const key = value.key ?? (await readIfThere(join(directory, NAMES.key)));
    if (key === null) throw new Error(`${NAMES.key} is missing`);
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
