import assert from "node:assert/strict";
import { test } from "node:test";
import { type Column, renderFields, renderTable, wrapText } from "./table.ts";

interface Item {
  readonly name: string;
  readonly size: number;
}

const COLUMNS: readonly Column<Item>[] = [
  { title: "NAME", value: ({ name }) => name },
  { title: "SIZE", value: ({ size }) => String(size), isNumeric: true },
  { title: "FIRST", value: () => "x", dropRank: 1 },
  { title: "SECOND", value: () => "y", dropRank: 2 },
];
const ITEMS = [
  { name: "long-name", size: 5 },
  { name: "a", size: 123456 },
];
const plain = (text: string): string => text;

test("columns are aligned, numbers at the right, without blanks at the line ends", () => {
  assert.equal(
    renderTable(COLUMNS, ITEMS, undefined, plain).text,
    "NAME         SIZE  FIRST  SECOND\nlong-name       5  x      y\na          123456  x      y",
  );
});

test("columns are left out in the order of their ranks until the table fits", () => {
  assert.deepEqual(renderTable(COLUMNS, ITEMS, 32, plain).omitted, []);
  assert.deepEqual(renderTable(COLUMNS, ITEMS, 31, plain).omitted, ["SECOND"]);
  assert.deepEqual(renderTable(COLUMNS, ITEMS, 20, plain), {
    text: "NAME         SIZE\nlong-name       5\na          123456",
    omitted: ["FIRST", "SECOND"],
  });
});

test("where not even the columns that stay fit, each item has lines of its own, and nothing is cut", () => {
  assert.deepEqual(renderTable(COLUMNS, ITEMS, 14, plain), {
    text: "NAME    long-name\nSIZE    5\nFIRST   x\nSECOND  y\n\nNAME    a\nSIZE    123456\nFIRST   x\nSECOND  y",
    omitted: [],
  });
});

test("control characters in values are shown, not obeyed", () => {
  const hostile = [{ name: "\u001b[2J\n", size: 1 }];
  assert.match(renderTable(COLUMNS, hostile, undefined, plain).text, /^\\u001b\[2J\\n /m);
  assert.equal(renderFields([["NAME", "\u001b[2J"]], plain), "NAME  \\u001b[2J");
});

test("colours in titles do not count as width", () => {
  const styled = renderTable(COLUMNS, ITEMS, 32, (text) => `\u001b[1m${text}\u001b[22m`);
  assert.deepEqual(styled.omitted, []);
});

test("fields stand under one another", () => {
  const fields = [
    ["ID", "x"],
    ["ATTACHED", "-"],
  ] as const;
  assert.equal(renderFields(fields, plain), "ID        x\nATTACHED  -");
});

test("text breaks between words and nowhere else", () => {
  assert.deepEqual(wrapText("one two three", 7), ["one two", "three"]);
  assert.deepEqual(wrapText("unbreakable", 3), ["unbreakable"]);
});
