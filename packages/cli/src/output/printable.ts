/** Characters that move the cursor, colour the screen, set its title, or turn the direction of the text around. */
const CONTROLS = /[\p{Cc}\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/gu;

/** Makes control characters visible: a name, a label or another text from elsewhere is shown and never obeyed by the terminal. */
export function printable(text: string): string {
  return text.replace(CONTROLS, toEscape);
}

/** The same for a text that may have several lines. */
export function printableLines(text: string): string {
  return text.split("\n").map(printable).join("\n");
}

/** An object on one line. What JSON leaves as it is, terminals may not. */
export function toJsonLine(value: object): string {
  return printable(JSON.stringify(value));
}

function toEscape(character: string): string {
  if (character === "\n") return "\\n";
  if (character === "\t") return "\\t";
  return `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`;
}
