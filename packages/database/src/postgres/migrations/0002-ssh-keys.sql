-- Public keys that may log in to every sandbox of their organization. `public_key` is the key itself, in base64.
CREATE TABLE ssh_keys (
  id text COLLATE "C" PRIMARY KEY,
  organization_id text COLLATE "C" NOT NULL REFERENCES organizations (id),
  name text COLLATE "C" NOT NULL,
  type text COLLATE "C" NOT NULL,
  public_key text COLLATE "C" NOT NULL,
  fingerprint text COLLATE "C" NOT NULL,
  created_at_ms bigint NOT NULL,
  CONSTRAINT ssh_keys_fingerprint UNIQUE (organization_id, fingerprint)
);
