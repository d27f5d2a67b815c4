/** One line of `caisson doctor`. */
export interface Check {
  /** What was looked at, for example `OCI runtime`. */
  readonly name: string;
  /** `warning`: it works, with a drawback. `missing`: sandboxes cannot start without it. */
  readonly status: "ok" | "warning" | "missing";
  /** What there is, for people. */
  readonly found: string;
  /** What to do; `null` when nothing needs doing. */
  readonly remedy: string | null;
}

export function ok(name: string, found: string): Check {
  return { name, status: "ok", found, remedy: null };
}

export function warning(name: string, found: string, remedy: string): Check {
  return { name, status: "warning", found, remedy };
}

export function missing(name: string, found: string, remedy: string): Check {
  return { name, status: "missing", found, remedy };
}
