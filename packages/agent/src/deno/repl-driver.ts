/** What the agent asks of the program of a REPL, one JSON text per line. */
export interface ReplRequest {
  readonly id: number;
  readonly code: string;
  /** JSON of the arguments when `code` is a function to call. */
  readonly args: string | null;
}

/** What it answers. `json` is the text of the value. */
export type ReplResponse =
  | { readonly id: number; readonly json: string }
  | { readonly id: number; readonly thrown: ThrownValue };

/** A thrown value. `classes` are the names of its classes, from its own up to `Error`; empty for what is not an error. */
export interface ThrownValue {
  readonly classes: readonly string[];
  readonly name: string | null;
  readonly message: string;
  readonly code: string | null;
  readonly stack: string | null;
  readonly cause: ThrownValue | null;
  readonly errors: readonly ThrownValue[] | null;
}

/**
 * The program inside the process of a REPL. Its text is handed to `deno eval`, so it uses nothing from outside this function. It evaluates
 * scripts in V8's REPL mode through the inspector, which keeps bindings from input to input, lets `const` and `let` be declared again and
 * allows `await` at the top level. It ends when the agent closes the socket.
 */
export async function runReplDriver(socketPath: string, replKey: string, baseUrl: string): Promise<void> {
  interface RemoteObject {
    readonly value?: unknown;
    readonly unserializableValue?: string;
    readonly objectId?: string;
  }
  interface Evaluation {
    readonly result: RemoteObject;
    readonly exceptionDetails?: { readonly exception?: RemoteObject };
  }
  interface InspectorModule {
    readonly Session: new () => {
      connect(): void;
      post(method: string, params: object, done: (error: Error | null, result: Evaluation) => void): void;
    };
  }

  interface NodeModule {
    readonly stripTypeScriptTypes: (code: string, options: { readonly mode: "strip" | "transform" }) => string;
  }

  // Taken before any other code runs, which may replace them.
  const { stringify, parse } = JSON;
  const { inspect, exit } = Deno;
  const socket = await Deno.connect({ transport: "unix", path: socketPath });
  const inspectorSpecifier: string = "node:inspector";
  const moduleSpecifier: string = "node:module";
  const { Session }: InspectorModule = await import(inspectorSpecifier);
  const session = new Session();
  session.connect();

  function post(method: string, params: object): Promise<Evaluation> {
    return new Promise((resolve, reject) => {
      session.post(method, params, (error, result) => (error === null ? resolve(result) : reject(error)));
    });
  }

  // What evaluated code reaches the driver by, under a symbol that no program looks for.
  const taken = new Map<number, unknown>();
  const gates = new Map<number, Promise<void>>();
  const driver = {
    /** The inspector speaks of values by name. This function, called through it, receives the values themselves. */
    take: (id: number, value: unknown) => taken.set(id, value),
    gate: (id: number) => gates.get(id),
    resolve: (specifier: unknown) =>
      typeof specifier === "string" && /^\.{0,2}\//.test(specifier) ? new URL(specifier, baseUrl).href : specifier,
  };
  Object.defineProperty(globalThis, Symbol.for(replKey), { value: driver });
  const driverName = `globalThis[Symbol.for(${stringify(replKey)})]`;
  const { result: take } = await post("Runtime.evaluate", { expression: `${driverName}.take` });

  /** A value in an object, so that a promise among them is not awaited yet. */
  async function realValue(id: number, remote: RemoteObject): Promise<{ readonly value: unknown }> {
    const { value, unserializableValue, objectId } = remote;
    if (objectId === undefined) {
      if (unserializableValue === undefined) return { value };
      const isBigInt = unserializableValue.endsWith("n");
      return { value: isBigInt ? BigInt(unserializableValue.slice(0, -1)) : Number(unserializableValue) };
    }
    await post("Runtime.callFunctionOn", {
      functionDeclaration: "function (id, value) { this(id, value); }",
      objectId: take.objectId,
      arguments: [{ value: id }, { objectId }],
    });
    const result = { value: taken.get(id) };
    taken.delete(id);
    return result;
  }

  /** What may be TypeScript, or an object that looks like a block. The rest is spared the loading of the translator. */
  const mayNeedTranslation =
    /^\s*\{|[:<!@]|\?\s*[,)=]|\b(?:abstract|as|declare|enum|interface|module|namespace|override|private|protected|public|readonly|satisfies|type)\b/;

  /** Removes types. Text that is not TypeScript is left for V8 to judge. */
  async function toJavaScript(code: string): Promise<string> {
    if (!mayNeedTranslation.test(code)) return code;
    const { stripTypeScriptTypes }: NodeModule = await import(moduleSpecifier);
    // `{ a: 1 }` is meant as an object and not as a block with a label, as in Deno's own REPL.
    const forms = /^\s*\{/.test(code) && !/;\s*$/.test(code) ? [`(${code}\n)`, code] : [code];
    for (const form of forms) {
      // Enums and the like are more than types, so they need the second, slower mode.
      for (const mode of ["strip", "transform"] as const) {
        try {
          return stripTypeScriptTypes(form, { mode });
        } catch {
          // The next one may accept it.
        }
      }
    }
    return code;
  }

  async function toScript({ code, args }: ReplRequest): Promise<string> {
    const javaScript = await toJavaScript(code);
    return args === null ? javaScript : `${javaScript.replace(/[;\s]+$/, "")}(...JSON.parse(${stringify(args)}))`;
  }

  async function evaluate(id: number, script: string): Promise<ReplResponse> {
    const objectGroup = String(id);
    const gate = Promise.withResolvers<void>();
    gates.set(id, gate.promise);
    const expression = `"use strict"; void await ${driverName}.gate(${id}); ${script}`;
    try {
      const evaluation = post("Runtime.evaluate", { expression, replMode: true, awaitPromise: true, objectGroup });
      // The code begins when the inspector has returned: Deno aborts when code ends the process while it is inside.
      gates.delete(id);
      gate.resolve();
      const { result, exceptionDetails } = await evaluation;
      if (exceptionDetails !== undefined) throw (await realValue(id, exceptionDetails.exception ?? result)).value;
      return { id, json: toJson(await (await realValue(id, result)).value) };
    } catch (error) {
      return { id, thrown: describe(error, 0) };
    } finally {
      await post("Runtime.releaseObjectGroup", { objectGroup });
    }
  }

  /** What JSON cannot express takes the nearest form: a Map is its entries, a Set its values, a BigInt its digits. */
  function toJson(value: unknown): string {
    const replace = (_key: string, item: unknown): unknown => {
      if (typeof item === "bigint") return item.toString();
      if (item instanceof Map || item instanceof Set) return [...item];
      if (ArrayBuffer.isView(item) && !(item instanceof DataView)) return Array.from(item as Uint8Array);
      if (item instanceof Error) return { ...item, name: item.name, message: item.message };
      if (item instanceof RegExp) return String(item);
      return item;
    };
    return stringify(value, replace) ?? "null";
  }

  function describe(error: unknown, depth: number): ThrownValue {
    if (!(error instanceof Error)) {
      const message = typeof error === "string" ? error : inspect(error);
      return { classes: [], name: null, message, code: null, stack: null, cause: null, errors: null };
    }
    const classes: string[] = [];
    for (let prototype: unknown = error; prototype instanceof Error; prototype = Object.getPrototypeOf(prototype)) {
      const { name } = prototype.constructor;
      if (name !== "" && !classes.includes(name)) classes.push(name);
    }
    const { name, message, stack, cause } = error;
    const code = "code" in error && typeof error.code === "string" ? error.code : null;
    const isNested = depth < 4;
    const inner =
      isNested && error instanceof AggregateError ? error.errors.map((item) => describe(item, depth + 1)) : null;
    return {
      classes,
      name: String(name),
      message: String(message),
      code,
      stack: typeof stack === "string" ? withoutDriver(stack) : null,
      cause: isNested && cause instanceof Error ? describe(cause, depth + 1) : null,
      errors: inner,
    };
  }

  /** What called the code is this program: its own module, the inspector, and the event loop below them. */
  function withoutDriver(stack: string): string {
    const lines = stack.split("\n");
    const end = lines.findIndex((line) =>
      /^\s+at .*(ext:core\/|ext:deno_node\/inspector|\$deno\$eval\.mjs)/.test(line),
    );
    return (end === -1 ? lines : lines.slice(0, end)).join("\n");
  }

  function show(text: string, error: unknown): void {
    console.error(text, error instanceof Error && typeof error.stack === "string" ? withoutDriver(error.stack) : error);
  }

  // As in Deno's own REPL, what nobody catches is shown and the session goes on.
  globalThis.addEventListener("error", (event) => {
    event.preventDefault();
    show("Uncaught", event.error);
  });
  globalThis.addEventListener("unhandledrejection", (event) => {
    event.preventDefault();
    show("Uncaught (in promise)", event.reason);
  });

  const chunkBytes = 256 * 1024;
  let sent = Promise.resolve();
  function answer(response: ReplResponse): void {
    const bytes = new TextEncoder().encode(`${stringify(response)}\n`);
    sent = sent.then(async () => {
      for (let written = 0; written < bytes.length; ) {
        written += await socket.write(bytes.subarray(written, written + chunkBytes));
      }
    });
  }

  // Inputs start in the order in which they came; one that waits for something does not hold up the next.
  let started = Promise.resolve();
  function receive(request: ReplRequest): void {
    started = started.then(async () => {
      void evaluate(request.id, await toScript(request)).then(answer);
    });
  }

  const buffer = new Uint8Array(chunkBytes);
  const decoder = new TextDecoder();
  const parts: string[] = [];
  for (let count = await socket.read(buffer); count !== null; count = await socket.read(buffer)) {
    const [first = "", ...others] = decoder.decode(buffer.subarray(0, count), { stream: true }).split("\n");
    parts.push(first);
    for (const other of others) {
      receive(parse(parts.splice(0).join("")));
      parts.push(other);
    }
  }
  exit(0);
}
