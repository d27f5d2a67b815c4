/** What an installation remembers of its store, in its own database. One server at a time uses it. */
export interface StoreMemory {
  get(): Promise<RememberedStore>;
  /** Keeps what is given, and the rest as it is; durable when it resolves. */
  remember(changes: Partial<RememberedStore>): Promise<void>;
  /** Snapshots that it takes to be in the store. */
  countReplicas(): Promise<number>;
}

export interface RememberedStore {
  /** Which store has the replicas; null: not known yet. */
  readonly storeId: string | null;
  /** The marks that servers of this installation have put into it, or were about to. */
  readonly marks: readonly string[];
}
