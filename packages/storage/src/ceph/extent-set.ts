/** Parts of an image, in order and apart from each other. */
export type ExtentSet = readonly Span[];
type Span = readonly [start: number, end: number];

export const EMPTY: ExtentSet = [];

/** Of parts in any order, which may overlap. */
export function extentSet(spans: readonly Span[]): ExtentSet {
  const result: [number, number][] = [];
  for (const [start, end] of spans.toSorted((a, b) => a[0] - b[0])) {
    const last = result.at(-1);
    if (last !== undefined && start <= last[1]) last[1] = Math.max(last[1], end);
    else if (end > start) result.push([start, end]);
  }
  return result;
}

export function union(a: ExtentSet, b: ExtentSet): ExtentSet {
  return extentSet([...a, ...b]);
}

export function intersection(a: ExtentSet, b: ExtentSet): ExtentSet {
  const result: Span[] = [];
  for (let i = 0, j = 0; i < a.length && j < b.length; ) {
    const [left, right] = [a[i], b[j]];
    if (left === undefined || right === undefined) break;
    const [start, end] = [Math.max(left[0], right[0]), Math.min(left[1], right[1])];
    if (start < end) result.push([start, end]);
    if (left[1] < right[1]) i += 1;
    else j += 1;
  }
  return result;
}

/** What is in `a` and not in `b`. */
export function difference(a: ExtentSet, b: ExtentSet): ExtentSet {
  const result: Span[] = [];
  let j = 0;
  for (const [start, end] of a) {
    let from = start;
    while (j < b.length && (b[j]?.[1] ?? 0) <= from) j += 1;
    for (let k = j; k < b.length && from < end; k += 1) {
      const cut = b[k];
      if (cut === undefined || cut[0] >= end) break;
      if (cut[0] > from) result.push([from, cut[0]]);
      from = Math.max(from, cut[1]);
    }
    if (from < end) result.push([from, end]);
  }
  return result;
}

export function bytesIn(set: ExtentSet): number {
  return set.reduce((sum, [start, end]) => sum + end - start, 0);
}
