/** What people type to run the command line, as the launcher found out: `caisson`, or the path that was typed where that is not found. */
export const CALLED_AS = process.env.CAISSON_COMMAND || "caisson";

/** Puts it in the place of `caisson` in lines that people are told to type. */
export function asCalled(text: string): string {
  return text.replace(/(?<![\w./-])caisson(?= [a-z[<-])/g, () => CALLED_AS);
}
