/** The connections that clients opened with a token and that outlive their request, such as those to sandboxes: they end when it is revoked. */
export class LiveConnections {
  readonly #endsByToken = new Map<string, Set<() => void>>();
  readonly #revoked = new Set<string>();

  /** Ends it at once when the token was revoked since it was looked at. Returns what forgets it. */
  add(tokenId: string, end: () => void): () => void {
    if (this.#revoked.has(tokenId)) {
      end();
      return () => {};
    }
    const ends = this.#endsByToken.get(tokenId) ?? new Set();
    this.#endsByToken.set(tokenId, ends.add(end));
    return () => {
      ends.delete(end);
      if (ends.size === 0) this.#endsByToken.delete(tokenId);
    };
  }

  /** For a token that was revoked: ends its connections, and those that are about to be added. */
  endAll(tokenId: string): void {
    this.#revoked.add(tokenId);
    for (const end of [...(this.#endsByToken.get(tokenId) ?? [])]) end();
  }
}
