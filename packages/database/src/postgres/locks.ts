/** Advisory locks, each of one schema of one database. */
export const LOCKS = {
  /** Held by the one server that owns the database, for as long as it is connected. */
  owner: 0,
  /** Shared by each transaction; alone with a server that takes the database. */
  takeover: 1,
} as const;

/** "Cais": keeps apart from other programs' locks. */
const SPACE = 0x43616973;

/** The two keys of a lock, as SQL. */
export function lockKeys(lock: number): string {
  return `${SPACE + lock}, hashtext(current_schema())`;
}
