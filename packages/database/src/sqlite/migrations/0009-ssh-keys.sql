-- Public keys that may log in to every sandbox of their organization. `public_key` is the key itself, in base64.
CREATE TABLE ssh_keys (
  id TEXT PRIMARY KEY,
  organization_id TEXT NOT NULL REFERENCES organizations (id),
  name TEXT NOT NULL,
  type TEXT NOT NULL,
  public_key TEXT NOT NULL,
  fingerprint TEXT NOT NULL,
  created_at_ms INTEGER NOT NULL,
  CONSTRAINT ssh_keys_fingerprint UNIQUE (organization_id, fingerprint)
) STRICT;
