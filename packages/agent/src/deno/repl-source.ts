import type { Import } from "es-module-lexer";
import { importDeclaration } from "./import-clause.ts";

/** The symbol under which the program of the REPL has what evaluated code needs of it, such as the resolution of specifiers. */
export const REPL_KEY = "caisson.repl";

/**
 * Rewrites the imports of an input for a REPL, which is evaluated as a script: static imports become dynamic ones, since a script has none,
 * and relative specifiers become absolute from `baseUrl`, because a script that the inspector evaluates has no address of its own. Text
 * that does not parse is returned as it is; the REPL says what is wrong with it.
 */
export async function rewriteImports(code: string, baseUrl: string): Promise<string> {
  if (!/\bimport\b/.test(code)) return code;
  const { parse } = await import("es-module-lexer/js");
  let imports: readonly Import[];
  try {
    [imports] = parse(code);
  } catch {
    return code;
  }
  let result = "";
  let copied = 0;
  for (const item of [...imports].sort((a, b) => a.importStart - b.importStart)) {
    const replaced = item.type === "static" ? staticImport(code, item, baseUrl) : dynamicSpecifier(code, item, baseUrl);
    if (replaced === undefined || replaced.start < copied) continue;
    result += code.slice(copied, replaced.start) + replaced.text;
    copied = replaced.end;
  }
  return result + code.slice(copied);
}

interface Replacement {
  readonly start: number;
  readonly end: number;
  readonly text: string;
}

function staticImport(
  code: string,
  item: Extract<Import, { type: "static" | "reexport-star" }>,
  baseUrl: string,
): Replacement | undefined {
  const { importStart: start, importEnd: end } = item;
  if (item.typeOnly) return { start, end, text: "" };
  const clause = code
    .slice(start, item.start - 1)
    .replace(/^import/, "")
    .replace(/\bfrom\s*$/, "");
  const attributes =
    item.attributes === null ? "" : `, { with: ${JSON.stringify(Object.fromEntries(item.attributes))} }`;
  const namespace = `await import(${JSON.stringify(absolute(item.specifier, baseUrl))}${attributes})`;
  const text = importDeclaration(clause, namespace);
  return text === undefined ? undefined : { start, end, text };
}

/** Only the specifier of a dynamic import changes. */
function dynamicSpecifier(code: string, item: Import, baseUrl: string): Replacement | undefined {
  if (item.type !== "dynamic") return undefined;
  const { start, end } = item;
  if (item.specifier === undefined || item.glob) {
    return {
      start,
      end,
      text: `globalThis[Symbol.for(${JSON.stringify(REPL_KEY)})].resolve(${code.slice(start, end)})`,
    };
  }
  return { start, end, text: JSON.stringify(absolute(item.specifier, baseUrl)) };
}

function absolute(specifier: string, baseUrl: string): string {
  return /^\.{0,2}\//.test(specifier) ? new URL(specifier, baseUrl).href : specifier;
}
