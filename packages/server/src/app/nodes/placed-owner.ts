import type { Owner } from "@caisson/database";

/** The run of the node that is to have something, which is known once that is reserved. */
export function placedOwner(id: string, owner: Owner | null): Owner {
  if (owner === null) throw new Error(`${id} has no node: it is not reserved`);
  return owner;
}
