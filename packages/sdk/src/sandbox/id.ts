import { parseId } from "@caisson/model";

/** Takes a sandbox id apart. Throws a `TypeError` before any request when the text is not one. */
export function parseSandboxId(id: string): { readonly region: string } {
  const parsed = parseId(id);
  if (parsed?.prefix === "sbx") return parsed;
  throw new TypeError(`Invalid sandbox ID: ${JSON.stringify(id)} is not of the form sbx_<region>_<20 characters>`);
}
