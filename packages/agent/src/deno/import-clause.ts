/**
 * Turns the clause of a static import, the text between `import` and `from`, into declarations of the same names from the module's
 * namespace. A name is `const`, which a later input of a REPL may declare again. Returns undefined for text that is no such clause.
 *
 * `a, { b as c, type D }` of `namespace` becomes `const { default: a, b: c } = namespace`.
 */
export function importDeclaration(clause: string, namespace: string): string | undefined {
  const text = withoutComments(clause).trim();
  if (text === "") return `void (${namespace})`;
  const [, defaultName, rest = ""] = /^(?:([^\s{*,]+)\s*(?:,|$))?\s*([\s\S]*)$/.exec(text) ?? [];
  const defaultMember = defaultName === undefined ? [] : [`default: ${defaultName}`];
  const namespaceName = /^\*\s*as\s+(\S+)$/.exec(rest)?.[1];
  if (namespaceName !== undefined) {
    const declaration = `const ${namespaceName} = ${namespace}`;
    return defaultName === undefined ? declaration : `${declaration}, { ${defaultMember.join()} } = ${namespaceName}`;
  }
  const named = rest === "" ? "" : /^\{([\s\S]*)\}$/.exec(rest)?.[1];
  if (named === undefined) return undefined;
  const members = named
    .split(",")
    .map((member) => member.trim())
    .filter((member) => member !== "" && !/^type\s+(?!as\s+\S+$)/.test(member));
  return `const { ${[...defaultMember, ...members.map(renamed)].join(", ")} } = ${namespace}`;
}

/** `b as c` is `b: c` in a pattern. */
function renamed(member: string): string {
  return member.replace(/\s+as\s+(\S+)$/, ": $1");
}

function withoutComments(text: string): string {
  return text.replace(/\/\*[\s\S]*?\*\/|\/\/.*$/gm, " ");
}
