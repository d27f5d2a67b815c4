import { CaissonError } from "./errors.ts";

export type Labels = Readonly<Record<string, string>>;

/** Limits of protocol.md 5.1. */
export const LABEL_LIMITS = { count: 5, keyBytes: 64, valueBytes: 128 } as const;

/** Returns the labels unchanged. Throws `INVALID_LABELS` naming the first that breaks a limit. */
export function requireLabels(value: unknown): Labels {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new CaissonError("INVALID_LABELS", "Invalid labels: give an object of text keys and text values");
  }
  const entries = Object.entries(value);
  if (entries.length > LABEL_LIMITS.count) {
    throw new CaissonError(
      "INVALID_LABELS",
      `Invalid labels: ${entries.length} given, at most ${LABEL_LIMITS.count} allowed`,
    );
  }
  for (const [key, text] of entries) {
    const shown = JSON.stringify(key.slice(0, LABEL_LIMITS.keyBytes));
    if (key === "" || Buffer.byteLength(key) > LABEL_LIMITS.keyBytes) {
      throw new CaissonError("INVALID_LABELS", `Invalid label key ${shown}: use 1 to ${LABEL_LIMITS.keyBytes} bytes`);
    }
    if (typeof text !== "string" || Buffer.byteLength(text) > LABEL_LIMITS.valueBytes) {
      throw new CaissonError(
        "INVALID_LABELS",
        `Invalid value of label ${shown}: use text of at most ${LABEL_LIMITS.valueBytes} bytes`,
      );
    }
  }
  return value as Labels;
}
