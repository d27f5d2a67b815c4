import { stripVTControlCharacters } from "node:util";
import Table from "cli-table3";
import { printable } from "./printable.ts";

/** A column of a listing. */
export interface Column<T> {
  readonly title: string;
  readonly value: (item: T) => string;
  /** Numbers stand at the right of their column. */
  readonly isNumeric?: boolean;
  /** Where the terminal is too narrow, the column with the highest number is left out first. One without a number always stays. */
  readonly dropRank?: number;
}

export interface RenderedTable {
  readonly text: string;
  /** Titles of the columns that did not fit. */
  readonly omitted: readonly string[];
}

const BARE = {
  chars: Object.fromEntries(
    ["top", "bottom", "mid", "left", "right"].flatMap((side) =>
      ["", "-mid", "-left", "-right", "-left-mid", "-mid-mid", "-right-mid"].map((suffix) => [side + suffix, ""]),
    ),
  ),
  style: { "padding-left": 0, "padding-right": 0, head: [], border: [] },
};

/**
 * Lays a table out in aligned columns without borders. When it is wider than `width`, columns are left out: a table that wraps cannot be
 * read. When it still does not fit, each item gets lines of its own, with all columns. Ids and slugs are never cut, because they are there to be copied.
 */
export function renderTable<T>(
  columns: readonly Column<T>[],
  items: readonly T[],
  width: number | undefined,
  styleTitle: (title: string) => string,
): RenderedTable {
  for (let shown = columns; ; ) {
    const text = draw(shown, items, styleTitle);
    const omitted = columns.filter((column) => !shown.includes(column)).map(({ title }) => title);
    if (width === undefined || widest(text) <= width) return { text, omitted };
    const rank = Math.max(...shown.map(({ dropRank }) => dropRank ?? 0));
    if (rank === 0) return { text: drawUpright(columns, items, styleTitle), omitted: [] };
    shown = shown.filter(({ dropRank }) => dropRank !== rank);
  }
}

/** Names and values under one another; names in the style of titles. */
export function renderFields(
  fields: readonly (readonly [name: string, value: string])[],
  styleTitle: (title: string) => string,
): string {
  const width = Math.max(...fields.map(([name]) => name.length));
  return fields.map(([name, value]) => `${styleTitle(name.padEnd(width))}  ${printable(value)}`).join("\n");
}

/** Breaks a text between words so that no line is wider than `width`, if its words allow. */
export function wrapText(text: string, width: number): string[] {
  const lines: string[] = [];
  for (const word of text.split(" ")) {
    const last = lines.at(-1);
    if (last === undefined || last.length + 1 + word.length > width) lines.push(word);
    else lines[lines.length - 1] = `${last} ${word}`;
  }
  return lines;
}

function draw<T>(columns: readonly Column<T>[], items: readonly T[], styleTitle: (title: string) => string): string {
  const table = new Table({
    ...BARE,
    chars: { ...BARE.chars, middle: "  " },
    colAligns: columns.map((column) => (column.isNumeric ? "right" : "left")),
  });
  table.push(
    columns.map(({ title }) => styleTitle(title)),
    ...items.map((item) => columns.map(({ value }) => printable(value(item)))),
  );
  return table
    .toString()
    .split("\n")
    .map((line) => line.trimEnd())
    .join("\n");
}

/** Each item as names and values, with an empty line between two. */
function drawUpright<T>(
  columns: readonly Column<T>[],
  items: readonly T[],
  styleTitle: (title: string) => string,
): string {
  const blocks = items.map((item) =>
    renderFields(
      columns.map(({ title, value }) => [title, value(item)]),
      styleTitle,
    ),
  );
  return blocks.join("\n\n");
}

function widest(text: string): number {
  return Math.max(...text.split("\n").map((line) => stripVTControlCharacters(line).length));
}
