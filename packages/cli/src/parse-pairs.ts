import { usageError } from "./cli-error.ts";

/** Reads `key=value` options. The value may be empty and may contain further `=`. */
export function parsePairs(option: string, texts: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    texts.map((text) => {
      const [, key, value] = /^([^=]+)=(.*)$/s.exec(text) ?? [];
      if (key === undefined || value === undefined) {
        throw usageError(`Invalid ${option} ${JSON.stringify(text)}`, `Write it as ${option} key=value.`);
      }
      return [key, value];
    }),
  );
}
