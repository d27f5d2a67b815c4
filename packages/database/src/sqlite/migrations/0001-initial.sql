-- Organizations and their tokens. A token is stored as the SHA-256 of its text: it has over 100 random bits, so no salt or stretching is needed.
CREATE TABLE organizations (
  id TEXT PRIMARY KEY,
  slug TEXT NOT NULL UNIQUE,
  created_at_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE tokens (
  id TEXT PRIMARY KEY,
  organization_id TEXT NOT NULL REFERENCES organizations (id),
  name TEXT NOT NULL,
  hash BLOB NOT NULL UNIQUE,
  created_at_ms INTEGER NOT NULL,
  revoked_at_ms INTEGER
) STRICT;

-- Volumes and snapshots: both are one storage image with the same id, a slug from one shared name space, and the same life.
-- `sequence` is the order of creation and the cursor of every list.
CREATE TABLE images (
  sequence INTEGER PRIMARY KEY AUTOINCREMENT,
  kind TEXT NOT NULL CHECK (kind IN ('volume', 'snapshot')),
  id TEXT NOT NULL UNIQUE,
  organization_id TEXT NOT NULL REFERENCES organizations (id),
  slug TEXT NOT NULL,
  region TEXT NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('creating', 'ready', 'deleted', 'purging')),
  capacity_bytes INTEGER NOT NULL,
  grow_to_bytes INTEGER,
  is_bootable INTEGER NOT NULL,
  consistency TEXT CHECK (consistency IN ('clean', 'frozen')),
  parent_kind TEXT CHECK (parent_kind IN ('volume', 'snapshot', 'builtin')),
  parent_id TEXT,
  parent_slug TEXT,
  base_snapshot_id TEXT,
  base_snapshot_slug TEXT,
  labels TEXT NOT NULL DEFAULT '{}',
  allocated_bytes INTEGER NOT NULL DEFAULT 0,
  flattened_bytes INTEGER NOT NULL DEFAULT 0,
  created_at_ms INTEGER NOT NULL,
  deleted_at_ms INTEGER,
  purge_at_ms INTEGER
) STRICT;

-- A slug is taken from the moment a creation starts until the deletion is acknowledged.
CREATE UNIQUE INDEX images_slug ON images (organization_id, slug) WHERE state IN ('creating', 'ready');
-- Holds every column that a list filters by, so that a search for one or two letters reads only this index.
CREATE INDEX images_list ON images (organization_id, kind, state, sequence DESC, slug);
CREATE INDEX images_parent ON images (parent_id) WHERE parent_id IS NOT NULL;
CREATE INDEX images_unsettled ON images (state, purge_at_ms) WHERE state <> 'ready';

-- Substring search of three letters and more; short terms scan `images_list`.
CREATE VIRTUAL TABLE image_search USING fts5 (slug, content = '', contentless_delete = 1, tokenize = 'trigram');

CREATE TRIGGER images_search_insert AFTER UPDATE OF state, slug ON images WHEN new.state = 'ready' AND old.state <> 'ready' BEGIN
  INSERT INTO image_search (rowid, slug) VALUES (new.sequence, new.slug);
END;
CREATE TRIGGER images_search_delete AFTER UPDATE OF state ON images WHEN old.state = 'ready' AND new.state <> 'ready' BEGIN
  DELETE FROM image_search WHERE rowid = old.sequence;
END;

CREATE TABLE sandboxes (
  sequence INTEGER PRIMARY KEY AUTOINCREMENT,
  id TEXT NOT NULL UNIQUE,
  organization_id TEXT NOT NULL REFERENCES organizations (id),
  region TEXT NOT NULL,
  status TEXT NOT NULL CHECK (status IN ('starting', 'running', 'stopping', 'stopped')),
  stop_reason TEXT,
  labels TEXT NOT NULL DEFAULT '{}',
  memory_mib INTEGER NOT NULL,
  created_at_ms INTEGER NOT NULL,
  stop_at_ms INTEGER,
  stopped_at_ms INTEGER
) STRICT;

CREATE INDEX sandboxes_list ON sandboxes (organization_id, sequence DESC);
CREATE INDEX sandboxes_live ON sandboxes (organization_id, status) WHERE status <> 'stopped';
CREATE INDEX sandboxes_stopped ON sandboxes (stopped_at_ms) WHERE status = 'stopped';

-- Who holds which volume. A writer is alone: the partial unique index is the last word on exclusivity.
CREATE TABLE attachments (
  volume_id TEXT NOT NULL REFERENCES images (id),
  sandbox_id TEXT NOT NULL REFERENCES sandboxes (id),
  is_read_only INTEGER NOT NULL,
  PRIMARY KEY (volume_id, sandbox_id)
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX attachments_writer ON attachments (volume_id) WHERE is_read_only = 0;
CREATE INDEX attachments_sandbox ON attachments (sandbox_id);

CREATE TABLE idempotency_keys (
  organization_id TEXT NOT NULL REFERENCES organizations (id),
  key TEXT NOT NULL,
  request_hash BLOB NOT NULL,
  -- The object that the first request makes. While it is being created the answer is not known yet.
  object_id TEXT NOT NULL,
  created_at_ms INTEGER NOT NULL,
  PRIMARY KEY (organization_id, key)
) STRICT, WITHOUT ROWID;

CREATE INDEX idempotency_keys_age ON idempotency_keys (created_at_ms);

-- The audit trail.
CREATE TABLE events (
  sequence INTEGER PRIMARY KEY AUTOINCREMENT,
  organization_id TEXT NOT NULL,
  at_ms INTEGER NOT NULL,
  actor TEXT NOT NULL,
  verb TEXT NOT NULL,
  object_id TEXT NOT NULL,
  outcome TEXT NOT NULL,
  detail TEXT NOT NULL
) STRICT;

CREATE INDEX events_object ON events (object_id);
CREATE INDEX events_age ON events (at_ms);
