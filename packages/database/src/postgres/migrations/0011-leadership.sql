-- Of several servers of one installation one leads, and the others stand by: whether others may, where the one that leads is reached, as a JSON object, and until when it is certainly there.
ALTER TABLE installation ADD COLUMN is_shared boolean NOT NULL DEFAULT false, ADD COLUMN address json, ADD COLUMN lease_until_ms bigint NOT NULL DEFAULT 0;

-- What every server of an installation has to have alike, because clients know it again: keys, by name.
CREATE TABLE shared_secrets (
  name text COLLATE "C" PRIMARY KEY,
  content text COLLATE "C" NOT NULL
);
