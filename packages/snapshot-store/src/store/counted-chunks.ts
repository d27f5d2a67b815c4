/** Names of the chunks that each upload under way counts on, by organization. One server writes: what no upload of it counts on, none does. */
export class CountedChunks {
  readonly #counted = new Map<string, Set<Set<string>>>();

  /** What an upload counts on until it is over: names are added as they become known. */
  countOn(organizationId: string): Disposable & { readonly names: Set<string> } {
    const uploads = this.#counted.get(organizationId) ?? new Set();
    this.#counted.set(organizationId, uploads);
    const names = new Set<string>();
    uploads.add(names);
    return {
      names,
      [Symbol.dispose]: () => {
        uploads.delete(names);
        if (uploads.size === 0 && this.#counted.get(organizationId) === uploads) this.#counted.delete(organizationId);
      },
    };
  }

  /** Whether an upload that is under way now counts on a chunk, also when it is over by the time that this is asked. */
  under(organizationId: string): (name: string) => boolean {
    const counted = [...(this.#counted.get(organizationId) ?? [])];
    return (name) => counted.some((names) => names.has(name));
  }
}
