import { posix } from "node:path";

/** Who may import whom. Each name that a rule mentions must exist, so that a rule cannot outlive what it is about. */
export interface ImportRules {
  /** The siblings that a package's own code may import. Every package is named here. */
  readonly allowed: Readonly<Record<string, readonly string[]>>;
  /** Names of concrete drivers, by the package that exports them, and the files outside it that may mention one. */
  readonly drivers: {
    readonly names: Readonly<Record<string, string>>;
    readonly composition: readonly string[];
  };
  /** Folders that call use cases only: closed to these siblings, and to the members of the context that lead to one. */
  readonly edges: {
    readonly folders: readonly string[];
    readonly siblings: readonly string[];
    readonly context: { readonly path: string; readonly variable: string; readonly members: readonly string[] };
  };
  /** Folders of the part that decides: what these siblings do on a host, it has done by a node. */
  readonly control: { readonly folders: readonly string[]; readonly siblings: readonly string[] };
}

/** What the rules are checked on: texts of source files and manifests, both by path from the repository's root. */
export interface Repository {
  readonly sources: ReadonlyMap<string, string>;
  readonly manifests: ReadonlyMap<string, Manifest>;
}

export interface Manifest {
  readonly exports?: Readonly<Record<string, string>>;
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly devDependencies?: Readonly<Record<string, string>>;
}

/** `from "x"`, `import "x"`, `import("x")`, with or without types: at the start of a statement or as a call. */
const IMPORT = /^(?:import|export|\}).*?\bfrom "([^"]+)"|^import "([^"]+)"|\bimport\(\s*"([^"]+)"\s*\)/gm;
const SCOPE = "@caisson/";

/** Everything that breaks a rule, as sentences. */
export function findViolations(repository: Repository, rules: ImportRules): readonly string[] {
  return [...findStaleRules(repository, rules), ...[...repository.sources].flatMap((source) => check(source))];

  function check([path, text]: readonly [string, string]): readonly string[] {
    const owner = packageOf(path);
    const problems: string[] = [];
    for (const match of text.matchAll(IMPORT)) {
      const target = match[1] ?? match[2] ?? match[3] ?? "";
      if (target.startsWith(SCOPE)) problems.push(...checkSibling(path, owner, target));
      else if (target.startsWith(".")) problems.push(...checkRelative(path, owner, target));
    }
    for (const [name, home] of Object.entries(rules.drivers.names)) {
      if (owner === home || owner === null || isForTests(path) || rules.drivers.composition.includes(path)) continue;
      if (new RegExp(`\\b${name}\\b`).test(text)) problems.push(`${path} names the concrete driver ${name}`);
    }
    if (isEdge(path)) {
      const { variable, members } = rules.edges.context;
      const found = new RegExp(`\\b${variable}\\.(?:${members.join("|")})\\b`).exec(text);
      if (found !== null) problems.push(`${path} reaches into a seam by ${found[0]}`);
    }
    return problems;
  }

  function isEdge(path: string): boolean {
    return !isForTests(path) && isBelow(path, rules.edges.folders);
  }

  function checkSibling(path: string, owner: string | null, target: string): readonly string[] {
    const [sibling = "", ...rest] = target.slice(SCOPE.length).split("/");
    const subpath = ["." as const, ...rest].join("/");
    const problems: string[] = [];
    const manifest = repository.manifests.get(`packages/${sibling}/package.json`);
    if (manifest?.exports?.[subpath] === undefined) problems.push(`${path} imports ${target}, which does not exist`);
    if (owner === null) return problems;
    const own = repository.manifests.get(`packages/${owner}/package.json`);
    if (sibling !== owner && own?.dependencies?.[SCOPE + sibling] === undefined) {
      const isDeclared = own?.devDependencies?.[SCOPE + sibling] !== undefined;
      if (!isDeclared)
        problems.push(`${path} imports ${target}, which packages/${owner}/package.json does not declare`);
    }
    if (isForTests(path)) return problems;
    if (subpath === "./testing") problems.push(`${path} is no test and imports ${target}`);
    if (sibling === owner) problems.push(`${path} imports its own package by name: ${target}`);
    else if (!(rules.allowed[owner] ?? []).includes(sibling)) problems.push(`${path} may not import ${target}`);
    if (isEdge(path) && rules.edges.siblings.includes(sibling))
      problems.push(`${path} reaches into a seam by ${target}`);
    if (isBelow(path, rules.control.folders) && rules.control.siblings.includes(sibling))
      problems.push(`${path} goes past the node by ${target}`);
    return problems;
  }

  function checkRelative(path: string, owner: string | null, target: string): readonly string[] {
    const resolved = posix.join(posix.dirname(path), target);
    const reached = packageOf(resolved);
    if (reached !== null && reached !== owner) return [`${path} reaches into another package: ${target}`];
    if (owner !== null && reached === null) {
      const isSupport = isForTests(path) && resolved.startsWith("tests/support/");
      return isSupport ? [] : [`${path} reaches out of its package: ${target}`];
    }
    if (!isForTests(path) && isForTests(resolved)) return [`${path} is no test and imports ${target}`];
    return [];
  }
}

function findStaleRules({ sources, manifests }: Repository, rules: ImportRules): readonly string[] {
  const packages = [...manifests.keys()].map(packageOf).filter((name) => name !== null);
  const named = Object.values(rules.allowed).flat();
  const { context } = rules.edges;
  const folders = [...rules.edges.folders, ...rules.control.folders];
  const siblings = [...rules.edges.siblings, ...rules.control.siblings];
  const contextText = sources.get(context.path) ?? "";
  const folderExists = (folder: string): boolean => [...sources.keys()].some((path) => path.startsWith(`${folder}/`));
  return [
    ...packages.filter((name) => rules.allowed[name] === undefined).map((name) => `no rule for package ${name}`),
    ...[...Object.keys(rules.allowed), ...named, ...siblings]
      .filter((name) => !packages.includes(name))
      .map((name) => `a rule names package ${name}, which does not exist`),
    ...[...rules.drivers.composition, context.path]
      .filter((path) => !sources.has(path))
      .map((path) => `a rule names ${path}, which does not exist`),
    ...Object.entries(rules.drivers.names)
      .filter(([name, home]) => !new RegExp(`\\b${name}\\b`).test(sources.get(`packages/${home}/src/index.ts`) ?? ""))
      .map(([name, home]) => `a rule names driver ${name}, which package ${home} does not export`),
    ...folders
      .filter((folder) => !folderExists(folder))
      .map((folder) => `a rule names folder ${folder}, which does not exist`),
    ...context.members
      .filter((member) => !contextText.includes(`readonly ${member}: `))
      .map((member) => `a rule names ${member}, which ${context.path} does not have`),
  ];
}

function packageOf(path: string): string | null {
  return /^packages\/([^/]+)\//.exec(path)?.[1] ?? null;
}

function isBelow(path: string, folders: readonly string[]): boolean {
  return folders.some((folder) => path.startsWith(`${folder}/`));
}

function isForTests(path: string): boolean {
  return /\.test\.ts$/.test(path) || /^packages\/[^/]+\/(?:testing|tests)\//.test(path);
}
