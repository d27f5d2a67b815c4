/**
 * Replaces what differs from run to run by something of the same length, so that aligned output can be compared whole: ids, moments and
 * time spans.
 */
export function normalize(text: string): string {
  return text
    .replace(
      /\b(vol|snp|sbx)_([a-z]{3})_[0-9a-z]{20}\b/g,
      (_id, prefix: string, region: string) => `${prefix}_${region}_${"x".repeat(20)}`,
    )
    .replace(/\b(tok|org|nod)_[0-9a-z]{20}\b/g, (_id, prefix: string) => `${prefix}_${"x".repeat(20)}`)
    .replace(/\bddo_[0-9a-z]+/g, "ddo_x")
    .replace(/\d{4}-\d{2}-\d{2}([ T])\d{2}:\d{2}:\d{2}/g, "2000-01-01$100:00:00")
    .replace(/00:00:00\.\d{2}\b/g, "00:00:00.00")
    .replace(/\b\d+(\.\d+)? (ms|s)\b/g, "N $2");
}
