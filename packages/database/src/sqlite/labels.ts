import type { Labels } from "@caisson/model";

/** SQL conditions that hold when the JSON column has every one of these labels. */
export function labelConditions(
  column: string,
  labels: Labels | undefined,
): {
  readonly conditions: string[];
  readonly values: string[];
} {
  const entries = Object.entries(labels ?? {});
  return {
    conditions: entries.map(
      () => `EXISTS (SELECT 1 FROM json_each(${column}) WHERE json_each.key = ? AND json_each.value = ?)`,
    ),
    values: entries.flat(),
  };
}
