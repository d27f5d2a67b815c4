/** Writes the file whole, so that an editor that watches it never reads half of it. */
export async function writeEditorSettings(path: string, settings: Readonly<Record<string, unknown>>): Promise<void> {
  await Deno.mkdir(path.slice(0, path.lastIndexOf("/")), { recursive: true });
  const temporary = `${path}.${crypto.randomUUID()}`;
  await Deno.writeTextFile(temporary, `${JSON.stringify(settings, null, 2)}\n`);
  await Deno.rename(temporary, path);
}
