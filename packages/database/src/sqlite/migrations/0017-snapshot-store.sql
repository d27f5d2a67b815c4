-- What this installation knows of its snapshot store, in at most one row: a fingerprint of the key that encrypts it, which store it is, and a JSON array of the marks that servers of this installation have put there.
CREATE TABLE snapshot_store (
  only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
  key_fingerprint TEXT,
  store_id TEXT,
  marks TEXT NOT NULL DEFAULT '[]'
) STRICT;
CREATE INDEX disks_replicated ON disks (node_id) WHERE replication_state = 'replicated';
