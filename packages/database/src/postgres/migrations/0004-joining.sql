-- The authority that signs the certificates of the installation's nodes and servers: its certificate and key, both PEM. Made once.
CREATE TABLE authority (
  only_row int PRIMARY KEY CHECK (only_row = 1),
  certificate text COLLATE "C" NOT NULL,
  private_key text COLLATE "C" NOT NULL
);

-- A token with which one machine joins as a node, kept as the SHA-256 of its text.
CREATE TABLE join_tokens (
  id text COLLATE "C" PRIMARY KEY,
  hash bytea NOT NULL UNIQUE,
  -- Null: the node says which regions it has.
  region text COLLATE "C",
  created_at_ms bigint NOT NULL,
  expires_at_ms bigint NOT NULL,
  -- The fingerprint of the key that used it, and the node that it is; null: nobody yet.
  key_fingerprint text COLLATE "C",
  node_id text COLLATE "C"
);

-- Ids of nodes that were forgotten. They are not given again: what carries such an id with its generation is of a node that is gone.
CREATE TABLE forgotten_nodes (
  id text COLLATE "C" PRIMARY KEY
);

-- Which start of the node's process the generation is of, and what its pools have free, as a JSON object of bytes by region.
ALTER TABLE nodes ADD COLUMN run_id text COLLATE "C" NOT NULL DEFAULT '', ADD COLUMN free_bytes json NOT NULL DEFAULT '{}';

CREATE INDEX sandboxes_node ON sandboxes (node_id, sequence) WHERE status <> 'stopped';
CREATE INDEX disks_node ON disks (node_id);
