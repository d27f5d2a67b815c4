-- The authority that signs the certificates of the installation's nodes and servers: its certificate and key, both PEM. Made once.
CREATE TABLE authority (
  only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
  certificate TEXT NOT NULL,
  private_key TEXT NOT NULL
) STRICT;

-- A token with which one machine joins as a node, kept as the SHA-256 of its text.
CREATE TABLE join_tokens (
  id TEXT PRIMARY KEY,
  hash BLOB NOT NULL UNIQUE,
  -- Null: the node says which regions it has.
  region TEXT,
  created_at_ms INTEGER NOT NULL,
  expires_at_ms INTEGER NOT NULL,
  -- The fingerprint of the key that used it, and the node that it is; null: nobody yet.
  key_fingerprint TEXT,
  node_id TEXT
) STRICT;

-- Ids of nodes that were forgotten. They are not given again: what carries such an id with its generation is of a node that is gone.
CREATE TABLE forgotten_nodes (
  id TEXT PRIMARY KEY
) STRICT;

-- Which start of the node's process the generation is of, and what its pools have free, as a JSON object of bytes by region.
ALTER TABLE nodes ADD COLUMN run_id TEXT NOT NULL DEFAULT '';
ALTER TABLE nodes ADD COLUMN free_bytes TEXT NOT NULL DEFAULT '{}';

CREATE INDEX sandboxes_node ON sandboxes (node_id, sequence) WHERE status <> 'stopped';
