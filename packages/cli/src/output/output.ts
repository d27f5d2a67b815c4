import pico from "picocolors";
import { asCalled } from "../called-as.ts";
import { EXIT } from "../exit-codes.ts";
import type { ErrorDescription } from "./describe-error.ts";
import { printable, printableLines, toJsonLine } from "./printable.ts";
import { type Column, renderFields, renderTable } from "./table.ts";

type Colors = ReturnType<typeof pico.createColors>;

export interface OutputOptions {
  readonly isJson: boolean;
  /** Only what a script needs: ids, and no confirmations. */
  readonly isQuiet: boolean;
  readonly isDebug: boolean;
}

/** A listing: how it looks as a table, and what it is called when there is nothing in it. */
export interface Listing<T> {
  readonly items: readonly T[];
  readonly columns: readonly Column<T>[];
  readonly id: (item: T) => string;
  /** The organization whose items these are, if it was named. */
  readonly org: string | undefined;
  /** What to say instead of rows. */
  readonly empty: string;
}

/**
 * Everything that commands print goes through here. Results go to standard output, everything else to standard error. In JSON mode
 * standard output carries exactly one object.
 */
export class Output {
  readonly isJson: boolean;
  readonly isQuiet: boolean;
  readonly colors: Colors;
  readonly #isDebug: boolean;
  readonly #errorColors: Colors;

  constructor(options: OutputOptions, environment: NodeJS.ProcessEnv) {
    this.isJson = options.isJson;
    this.isQuiet = options.isQuiet;
    this.#isDebug = options.isDebug;
    this.colors = colorsFor(process.stdout, environment);
    this.#errorColors = colorsFor(process.stderr, environment);
  }

  /** Whether a person watches: progress is shown, and a terminal session makes sense. */
  get isWatched(): boolean {
    return process.stderr.isTTY === true && !this.isJson && !this.isQuiet;
  }

  /** Prints what a script wants to catch, for example an id: as bare text, or as an object. */
  value(text: string, json: object): void {
    writeLine(this.isJson ? toJsonLine(json) : printableLines(text));
  }

  /** Confirms that something was done. */
  confirm(text: string, json: object): void {
    if (this.isJson) writeLine(toJsonLine(json));
    else if (!this.isQuiet) writeLine(asCalled(printable(text)));
  }

  /** Prints names and values. In quiet mode only the id. */
  fields(fields: readonly (readonly [name: string, value: string])[], id: string, json: object): void {
    if (this.isJson) writeLine(toJsonLine(json));
    else writeLine(this.isQuiet ? id : renderFields(fields, this.colors.bold));
  }

  list<T>({ items, columns, id, org, empty }: Listing<T>): void {
    if (this.isJson) {
      writeLine(toJsonLine({ items, org: org ?? null }));
    } else if (this.isQuiet) {
      for (const item of items) writeLine(id(item));
    } else {
      const { text, omitted } = renderTable(columns, items, process.stdout.columns, this.colors.bold);
      writeLine(text);
      if (items.length === 0) this.note(empty);
      if (omitted.length > 0)
        this.note(`Left out, because the terminal is narrow: ${omitted.join(", ")}. --json has all.`);
    }
  }

  /** Prints lines as they are: what comes from elsewhere must be made printable before. Not for JSON mode. */
  text(text: string): void {
    writeLine(text);
  }

  /** Says something on the side. */
  note(text: string): void {
    if (!this.isQuiet && !this.isJson) process.stderr.write(`${this.#errorColors.dim(asCalled(printable(text)))}\n`);
  }

  warn(text: string): void {
    process.stderr.write(`${this.#errorColors.yellow("warning:")} ${asCalled(printable(text))}\n`);
  }

  error({ code, message, hint, traceId, exitCode }: ErrorDescription, error: unknown): void {
    if (this.isJson) {
      const shown = { code, message, hint: hint === undefined ? null : asCalled(hint), traceId: traceId ?? null };
      process.stderr.write(`${toJsonLine({ error: shown })}\n`);
      return;
    }
    const { bold, red, cyan, dim } = this.#errorColors;
    process.stderr.write(`${bold(red("error:"))} ${printableLines(message)}\n`);
    if (hint !== undefined) process.stderr.write(`${cyan("hint:")} ${asCalled(printable(hint))}\n`);
    // Whoever runs the server finds the cause in its log by this id.
    const isServersFault = exitCode === EXIT.backend;
    if (traceId !== undefined && (isServersFault || this.#isDebug))
      process.stderr.write(`${dim(`trace id: ${printable(traceId)}`)}\n`);
    if (this.#isDebug && error instanceof Error) process.stderr.write(`${dim(error.stack ?? "")}\n`);
  }
}

/** Colours only on a terminal, and not where NO_COLOR asks for none (no-color.org). */
function colorsFor(stream: NodeJS.WriteStream, environment: NodeJS.ProcessEnv): Colors {
  const isColored = stream.isTTY === true && !environment.NO_COLOR && environment.TERM !== "dumb";
  return pico.createColors(isColored);
}

function writeLine(text: string): void {
  process.stdout.write(`${text}\n`);
}
