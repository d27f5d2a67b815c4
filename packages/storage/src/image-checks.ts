import { CaissonError } from "@caisson/model";
import type { ImageId } from "./driver.ts";

const IMAGE_ID = /^[a-z0-9_-]{1,64}$/;

export function requireImageId(id: ImageId): void {
  if (IMAGE_ID.test(id)) return;
  const message = `Invalid image id ${JSON.stringify(id)}: 1 to 64 characters of a-z, 0-9, _ and -`;
  throw new CaissonError("INTERNAL_ERROR", message);
}

/** A repeated call must ask for what is there; another size or kind under the same id is a mistake of the caller. */
export function requireSame<State extends string>(
  action: string,
  existing: { readonly state: State; readonly sizeBytes: number },
  state: State,
  sizeBytes: number,
): void {
  if (existing.state === state && existing.sizeBytes === sizeBytes) return;
  throw refused(action, `there is another image of that id (${existing.state}, ${existing.sizeBytes} bytes)`);
}

/** What the caller should not have asked for. */
export function refused(action: string, reason: string): CaissonError {
  return new CaissonError("INTERNAL_ERROR", `Cannot ${action}: ${reason}`);
}
